"""What there is to share out: the cores and GPUs that this process was given."""

from __future__ import annotations

import importlib.util
import os
import subprocess

from recon.backend import cores


def gpus(device: str = "auto") -> tuple[str, ...]:
    """Names for ``CUDA_VISIBLE_DEVICES``, one a GPU; none where CuPy or a driver is missing, or for ``"cpu"``."""
    if device == "cpu" or importlib.util.find_spec("cupy") is None:
        return ()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return tuple(name.strip() for name in given.split(",") if name.strip() not in ("", "-1", "NoDevFiles"))
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"],
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip())


def shares(wanted: int | None, device: str, units: int) -> list[dict[str, str]]:
    """What each process of a batch gets, as its environment: one GPU each, or a share of the cores.

    Args:
        wanted: processes side by side; by default one for each GPU, or where there is none for each core.
        device: as in `gpus`.
        units: most that could run at a time.
    """
    devices, n_cores = gpus(device), cores()
    number = max(1, min(wanted or len(devices) or n_cores, max(units, 1)))
    threads = str(max(1, n_cores // number))
    shared = dict.fromkeys(("RECON_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    if not devices:
        return [dict(shared) for _ in range(number)]
    return [{**shared, "CUDA_VISIBLE_DEVICES": devices[i % len(devices)]} for i in range(number)]


__all__ = ["gpus", "shares"]
