"""Solvers: they take operators and data terms and know nothing of files, elements or jobs."""

from recon.solvers.solution import Callback, Record, Solution, Status

__all__ = ["Callback", "Record", "Solution", "Status"]
