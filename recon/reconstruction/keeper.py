"""Where a reconstruction keeps what it could go on from, and who tells it to stop.

A job's checkpoints are such a keeper (`recon.job.checkpoint`); `Nothing` and `Ended` are those of a call from Python,
`Shared` is that of several ranks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from recon.errors import OutputError, ReconError
from recon.parallel import Ranks, Slab
from recon.reconstruction.spread import SharedFolder
from recon.solvers import State

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


class Ended(Nothing):
    """Keeps nothing, and asks to stop with what there is from when `end` was called."""

    def __init__(self) -> None:
        self.stopping = self.stop_wanted = False

    def end(self) -> None:
        self.stopping = self.stop_wanted = True

    def control(self, element: str) -> Control:
        return lambda solver: self.stopping


class Shared:
    """Rank 0's keeper for all ranks: each method is called by all of them, and tells all of them the same.

    Args:
        ranks: that share the volumes.
        keeper: on rank 0; on the others None.
        folder: where what they share lies as files.
    """

    def __init__(self, ranks: Ranks, keeper: Keeper | None, folder: SharedFolder) -> None:
        self.ranks, self.keeper, self.folder = ranks, keeper or Nothing(), folder

    @property
    def stopping(self) -> bool:
        return bool(self.ranks.tell(self.keeper.stopping))

    @property
    def stop_wanted(self) -> bool:
        return bool(self.ranks.tell(self.keeper.stop_wanted))

    def patience(self) -> contextlib.AbstractContextManager[None]:
        return self.keeper.patience()

    def volume(self, element: str) -> Volume | None:
        from recon.series.volume import Volume

        found = self.keeper.volume(element)
        if not self.ranks.tell(found is not None):
            return None
        return found or Volume(np.zeros((0, 0, 0), np.float32), 1.0, element)

    def keep_volume(self, volume: Volume) -> None:
        self.keeper.keep_volume(volume)

    def has_state(self, element: str) -> bool:
        return bool(self.ranks.tell(self.keeper.has_state(element)))

    def restore(self, element: str, solver: Resumable) -> None:
        found = _Found()
        if self.ranks.rank == 0:
            self.keeper.restore(element, found)
        solver.restore(self.ranks.tell(found.kept))  # arrays in files are read by each rank, as far as it needs them

    def control(self, element: str) -> Control | None:
        inner = self.keeper.control(element)
        if not self.ranks.tell(inner is not None):
            return None
        ranks = self.ranks

        def control(solver: Any) -> bool:
            if inner is not None:
                stop = inner(_Told(ranks, solver))
                ranks.tell("stop" if stop else "go")
                return stop
            while callable(word := ranks.tell(None)):
                Parts(ranks, solver.parts()).do(word)
            return bool(word == "stop")

        return control

    def fetch(self, what: str, element: str) -> tuple[dict[str, Any], Mapping[str, Array]] | None:
        found = self.keeper.fetch(what, element)
        values = self.ranks.tell(None if found is None else found[0])
        return None if values is None else (values, {} if found is None else found[1])

    def stash(
        self, what: str, element: str, values: Mapping[str, Any], arrays: Mapping[str, Array], *, always: bool = False
    ) -> None:
        self.keeper.stash(what, element, values, arrays, always=always)

    def stop_asked(self, what: str, element: str, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> bool:
        return bool(self.ranks.tell(self.keeper.stop_asked(what, element, values, arrays)))


class _Found:
    """Takes a state from a keeper."""

    def __init__(self) -> None:
        self.kept: State | None = None

    def state(self) -> State:
        assert self.kept is not None
        return self.kept

    def restore(self, state: State) -> None:
        self.kept = state


class _Told:
    """A solver of all ranks, to rank 0's keeper."""

    def __init__(self, ranks: Ranks, solver: Any) -> None:
        self.ranks, self.solver = ranks, solver

    def state(self) -> State:
        own = self.solver.state()
        return State(Parts(self.ranks, self.solver.parts()), own.numbers, own.history)

    def restore(self, state: State) -> None:
        self.solver.restore(state)


class Parts(Mapping[str, "Array"]):
    """A rank's own slices of arrays that all ranks share, and on rank 0 the way to let each do something with its own.

    Attributes:
        ranks: that share them.
        ranges: by name first slice and end of its own, and slices in all; of the last axis.
    """

    def __init__(self, ranks: Ranks, parts: Mapping[str, tuple[Array, Slab]]) -> None:
        self.ranks = ranks
        self.ranges = {name: (*slab.own(), slab.n) for name, (_, slab) in parts.items()}
        self._arrays = {name: slab.inner(a) for name, (a, slab) in parts.items()}

    def on_each(self, work: Callable[[Parts], None]) -> None:
        """Every rank does `work` with its own; called by rank 0 while the others wait in `Shared.control`.

        Raises:
            OutputError: one of them could not.
        """
        self.ranks.tell(work)
        self.do(work)

    def do(self, work: Callable[[Parts], None]) -> None:
        """This rank's part of it."""
        wrong = ""
        try:
            work(self)
        except ReconError as exc:
            wrong = str(exc)
        said = self.ranks.everyone(wrong)
        if self.ranks.rank == 0 and any(said):
            raise OutputError(next(filter(None, said)))

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


__all__ = ["Ended", "Keeper", "Nothing", "Parts", "Shared"]
