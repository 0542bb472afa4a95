"""Median time of `recon --help` and of `recon demo` from cold kernels: ``python benchmarks/startup.py [--demo]``."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time


def seconds(*arguments: str, environment: dict[str, str] | None = None) -> float:
    """Wall time of one command."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "recon", *arguments],
        check=True,
        capture_output=True,
        env=environment or dict(os.environ),
    )
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", action="store_true", help="time the demo too, compilation included")
    args = parser.parse_args()
    print(f"recon --help: {1e3 * statistics.median(seconds('--help') for _ in range(11)):.0f} ms, median of 11")
    if args.demo:
        with tempfile.TemporaryDirectory() as folder:
            cold = {**os.environ, "NUMBA_CACHE_DIR": f"{folder}/kernels"}
            print(f"recon demo, cold: {seconds('demo', '--out', f'{folder}/out', environment=cold):.0f} s")


if __name__ == "__main__":
    main()
