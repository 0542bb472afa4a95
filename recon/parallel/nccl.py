"""Arrays between GPUs, over NCCL. Has not run on a GPU so far."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from recon.parallel.messages import Communicator, Finish, Message


class Nccl:
    """NCCL's communicator of all ranks, on a stream of its own, so that arrays travel beside the computation."""

    def __init__(self, comm: Communicator, nccl: Any) -> None:
        import cupy

        name = comm.bcast(nccl.get_unique_id() if comm.Get_rank() == 0 else None)
        self._nccl, self._comm = nccl, nccl.NcclCommunicator(comm.Get_size(), name, comm.Get_rank())
        self._stream = cupy.cuda.Stream(non_blocking=True)

    def start(self, messages: Sequence[Message]) -> Finish:
        """Send and get arrays; what is computed after the end of this waits for them on the GPU."""
        import cupy

        self._stream.wait_event(cupy.cuda.get_current_stream().record())
        self._nccl.groupStart()
        for m in messages:
            call, a = (self._comm.send, m.sent) if m.got is None else (self._comm.recv, m.got)
            assert a is not None
            call(a.data.ptr, a.nbytes, self._nccl.NCCL_INT8, m.other, self._stream.ptr)  # type: ignore[attr-defined]
        self._nccl.groupEnd()
        done, kept = self._stream.record(), list(messages)

        def finish() -> None:
            cupy.cuda.get_current_stream().wait_event(done)
            kept.clear()  # their memory must not serve others before

        return finish


_WIRES: dict[int, Nccl | None] = {}  # by communicator, made when first asked for, by all ranks at once


def nccl_of(comm: Communicator) -> Nccl | None:
    """NCCL, which wants a GPU of its own for each rank; None where that cannot be."""
    key = id(comm)
    if key not in _WIRES:
        import cupy

        try:
            from cupy.cuda import nccl
        except ImportError:
            nccl = None
        device = cupy.cuda.Device()
        mine = None if nccl is None else (socket.gethostname(), device.pci_bus_id)
        seen = comm.allgather(mine)
        _WIRES[key] = Nccl(comm, nccl) if None not in seen and len(set(seen)) == comm.Get_size() else None
    return _WIRES[key]


__all__ = ["Nccl", "nccl_of"]
