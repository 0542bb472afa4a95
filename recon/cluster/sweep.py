"""Sweeps from Python: jobs times sets of parameters, on any executor of the `concurrent.futures` kind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from recon.cluster.submit import combinations, shares_alignment
from recon.cluster.summary import Row, rows_of, write_csv
from recon.cluster.units import Unit, expand, names_of
from recon.errors import ReconError


class Future(Protocol):
    """What a call gave or will give."""

    def result(self) -> Any:
        """Wait for it."""


class Executor(Protocol):
    """`concurrent.futures.Executor`, `submitit.AutoExecutor`, `dask.distributed.Client`, and the like."""

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future:
        """Call a function somewhere."""


def sweep(
    jobs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    grid: Mapping[str, Sequence[Any]] | None = None,
    *,
    out: str | os.PathLike[str] = "recon-sweep",
    executor: Executor | None = None,
    device: str = "auto",
) -> list[Row]:
    """Run jobs with every combination of the values of a grid.

    Each job is aligned once for all sets of parameters that leave its alignment as it is. What was finished before,
    with the same input, parameters and version, is not done again.

    Args:
        jobs: job files or patterns.
        grid: keys of the job file to lists of values, ``{"reconstruct.strength": [0.5, 1, 2]}``.
        out: folder for the results, ``NAME-NUMBER-recon`` each, and ``summary.csv``.
        executor: who runs them, in processes that see the same files. By default processes of this machine, one a GPU
            or with a share of the cores each. ``submitit.AutoExecutor`` (extra ``slurm``) makes jobs of Slurm of them,
            ``dask.distributed.Client`` (extra ``dask``) takes whatever Dask runs on.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Returns:
        One `Row` for each job, set of parameters and element, in that order; a job that fails says why in its rows and
        does not stop the others.

    Raises:
        JobError: a job file or the grid is wrong; nothing was run.
        OutputError: the table cannot be written.
    """
    from recon.job.file import load_job

    folder = Path(out).resolve()
    named = [jobs] if isinstance(jobs, str | os.PathLike) else list(jobs)
    sets = combinations(grid or {})
    align: dict[Path, Unit] = {}
    units: list[tuple[Unit, tuple[str, ...]]] = []
    files = expand(named)
    for path, stem in zip(files, names_of(files, plain=True), strict=True):
        job = load_job(path)
        for number, changes in enumerate(sets):
            changed = load_job(path, changes=changes)
            name = f"{stem}-{number}" if changes else stem
            aligned = folder / "aligned" / f"{stem if shares_alignment(changes) else name}.npz"
            unit = Unit(str(job.path), out=folder / f"{name}-recon", changes=changes, aligned=aligned)
            align.setdefault(aligned, Unit(unit.job, "align", out=unit.out, changes=changes, aligned=aligned))
            units.append((unit, changed.elements))
    with _executor(executor, device, len(units)) as chosen:
        first = {path: chosen.submit(run_unit, unit, device) for path, unit in align.items()}
        failed = {path: future.result() for path, future in first.items()}
        futures = [None if failed[u.aligned] else chosen.submit(run_unit, u, device) for u, _ in units if u.aligned]
        said = [failed[u.aligned] if f is None else f.result() for (u, _), f in zip(units, futures, strict=True)]  # type: ignore[index]
    rows: list[Row] = []
    for (unit, elements), message in zip(units, said, strict=True):
        state = "failed" if message else "done"
        rows += rows_of(unit.job, unit.out, elements, state=state, changes=unit.changes, message=message)
    write_csv(rows, folder / "summary.csv")
    return rows


def run_unit(unit: Unit, device: str) -> str:
    """Run one unit in this process; returns what went wrong, or nothing."""
    from recon.job.file import load_job
    from recon.job.pipeline import run_job

    try:
        job = load_job(unit.job, changes=unit.changes)
        run_job(job, out=unit.out, device=device, resume=True, part=unit.part())
    except (ReconError, MemoryError) as exc:
        return " ".join(str(exc).split()) or "out of memory"
    return ""


@contextmanager
def _executor(given: Executor | None, device: str, units: int) -> Iterator[Executor]:
    """The one that was given, or processes of this machine."""
    if given is not None:
        yield given
        return
    import multiprocessing

    from recon.cluster.machine import shares

    parts = shares(None, device, units)
    context = multiprocessing.get_context("spawn")
    numbers = context.SimpleQueue()
    for part in parts:
        numbers.put(part)
    with ProcessPoolExecutor(len(parts), mp_context=context, initializer=_take_share, initargs=(numbers,)) as pool:
        yield pool


def _take_share(parts: Any) -> None:
    """Of the machine, in a new process."""
    os.environ.update(parts.get())


__all__ = ["Executor", "Future", "run_unit", "sweep"]
