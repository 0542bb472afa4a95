"""Solvers: they take operators and data terms and know nothing of files, elements or jobs."""

from recon.solvers.solution import Callback, Control, Record, Resumable, Solution, State, Status

__all__ = ["Callback", "Control", "Record", "Resumable", "Solution", "State", "Status"]
