"""Where a reconstruction keeps what it could go on from, and who tells it to stop.

A job's checkpoints are such a keeper (`recon.job.checkpoint`); `Nothing` is the one of a call from Python.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from recon.backend import Array
    from recon.series import Volume
    from recon.solvers import Control, Resumable


class Keeper(Protocol):
    """What `reconstruct` and `uncertainty` ask of a keeper."""

    @property
    def stopping(self) -> bool:
        """Whether the user wants what there is: then nothing new is begun."""

    @property
    def stop_wanted(self) -> bool:
        """Whether the run is to stop, to end with what there is or to go on later."""

    def patience(self) -> contextlib.AbstractContextManager[None]:
        """In here somebody asks often whether to stop, so a signal need not interrupt."""

    def volume(self, element: str) -> Volume | None:
        """The volume of an element that was finished before."""

    def keep_volume(self, volume: Volume) -> None:
        """Keep a finished element."""

    def has_state(self, element: str) -> bool:
        """Whether there is a state of the solver that was at work on an element."""

    def restore(self, element: str, solver: Resumable) -> None:
        """Put that state into a fresh solver of the same problem."""

    def control(self, element: str) -> Control | None:
        """What a solver asks before every iteration."""

    def fetch(self, what: str, element: str) -> tuple[dict[str, Any], Mapping[str, Array]] | None:
        """JSON values and arrays that were kept under a name."""

    def stash(
        self, what: str, element: str, values: Mapping[str, Any], arrays: Mapping[str, Array], *, always: bool = False
    ) -> None:
        """Keep JSON values and arrays under a name, if that is due, or in any case."""

    def stop_asked(self, what: str, element: str, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> bool:
        """Keep these, at once if the run is to stop; whether the user wants what there is."""


class Nothing:
    """Keeps nothing and never asks to stop."""

    stopping = stop_wanted = False

    def patience(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def volume(self, element: str) -> Volume | None:
        return None

    def keep_volume(self, volume: Volume) -> None:
        return None

    def has_state(self, element: str) -> bool:
        return False

    def restore(self, element: str, solver: Resumable) -> None:
        raise ValueError(f"there is no state of {element}")

    def control(self, element: str) -> Control | None:
        return None

    def fetch(self, what: str, element: str) -> tuple[dict[str, Any], Mapping[str, Array]] | None:
        return None

    def stash(
        self, what: str, element: str, values: Mapping[str, Any], arrays: Mapping[str, Array], *, always: bool = False
    ) -> None:
        return None

    def stop_asked(self, what: str, element: str, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> bool:
        return False


__all__ = ["Keeper", "Nothing"]
