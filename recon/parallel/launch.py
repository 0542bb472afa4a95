"""Which ranks there are: what the launchers of MPI tell their processes."""

from __future__ import annotations

import os

from recon.errors import BackendError
from recon.parallel.ranks import ALONE, Ranks

# what the launchers of MPI put into the environment of their processes
_LAUNCHED = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "MPI_LOCALNRANKS")
_LOCAL = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE")

_LOCAL_NUMBER = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")


def launched() -> Ranks:
    """The ranks of ``mpirun``, or one.

    Raises:
        BackendError: several were started, but mpi4py is missing, or does not see them.
    """
    size = next((os.environ[name] for name in _LAUNCHED if name in os.environ), "1")
    if size == "1" and "PMIX_RANK" not in os.environ:
        return ALONE
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as exc:
        raise BackendError(
            f"this is one of several processes of MPI, but mpi4py does not load ({exc}); install the extra mpi"
        ) from exc
    return Ranks(MPI.COMM_WORLD) if MPI.COMM_WORLD.Get_size() > 1 else ALONE


def use_own_gpu() -> None:
    """Of several GPUs of a machine, each of its ranks takes one. Has not run on a GPU so far."""
    import cupy

    number = next((os.environ[n] for n in _LOCAL_NUMBER if os.environ.get(n, "").isdigit()), "0")
    cupy.cuda.Device(int(number) % cupy.cuda.runtime.getDeviceCount()).use()


def local_ranks() -> int:
    """Ranks of ``mpirun`` on this machine."""
    return int(next((os.environ[n] for n in _LOCAL if os.environ.get(n, "").isdigit()), "1"))


__all__ = ["launched", "local_ranks", "use_own_gpu"]
