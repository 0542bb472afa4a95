"""What ranks say to each other: arrays between two of them, through whatever carries them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from recon.backend import Array

Finish = Callable[[], None]  # waits until what was begun is done


class Communicator(Protocol):
    """What is asked of mpi4py's."""

    def Get_rank(self) -> int: ...  # noqa: N802
    def Get_size(self) -> int: ...  # noqa: N802
    def Abort(self, status: int) -> None: ...  # noqa: N802
    def bcast(self, value: Any, root: int = 0) -> Any: ...
    def allgather(self, value: Any) -> list[Any]: ...
    def send(self, value: Any, dest: int, tag: int) -> None: ...
    def recv(self, buffer: Any, source: int, tag: int) -> Any: ...
    def iprobe(self, source: int, tag: int) -> bool: ...
    def Isend(self, buffer: Any, dest: int, tag: int = 0) -> Any: ...  # noqa: N802
    def Irecv(self, buffer: Any, source: int, tag: int = 0) -> Any: ...  # noqa: N802


@dataclass(frozen=True, eq=False)
class Message:
    """What a rank sends to another one, or room for what it gets from it; contiguous arrays."""

    other: int
    sent: Array | None = None
    got: Array | None = None


__all__ = ["Communicator", "Finish", "Message"]
