"""Solvers: they take operators and data terms and know nothing of files, elements or jobs."""

from recon.series.volume import Record, Solution, Status
from recon.solvers.solution import Callback, Control, Resumable, State

__all__ = ["Callback", "Control", "Record", "Resumable", "Solution", "State", "Status"]
