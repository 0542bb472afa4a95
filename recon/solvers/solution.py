"""What a solver returns: the value, why it stopped, and the record of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from recon.backend import Array
from recon.series.volume import Record


@dataclass(frozen=True, eq=False)
class State:
    """What an iterative solver goes on from, to the bit on the same kind of device.

    Attributes:
        arrays: by name, NumPy or CuPy; a mapping may read them from a file one by one.
        numbers: by name; Python numbers or None.
        history: one `Record` per check so far.
    """

    arrays: Mapping[str, Array]
    numbers: Mapping[str, Any]
    history: Sequence[Record]


class Resumable(Protocol):
    """A solver that can be stopped between two iterations and go on from there."""

    def state(self) -> State: ...

    def restore(self, state: State) -> None: ...


Callback = Callable[[Record], None]
Control = Callable[[Resumable], bool]  # asked between two iterations; True: stop here
