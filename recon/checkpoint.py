"""Checkpoints of a job: what a run that was killed goes on from.

They live in ``OUT.partial`` beside the folder of results ``OUT`` and go when the run has finished: the aligned
series, one volume for each finished element, and the solver's state of the element in work. Each is a
``.npz`` file, written aside and renamed, with a header that says what it belongs to; the archive's directory
at its end and the checksum of each array tell a file that was cut short or damaged.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from recon._version import __version__
from recon.backend import Array, to_host
from recon.errors import InputError, OutputError, ReconError, ResourceError, StoppedError, SuspendedError
from recon.interrupts import Interrupts
from recon.io.folder import _real, explain, whole_file
from recon.solvers import Record, Resumable, Solution, State, Status
from recon.tiltseries import Alignment, TiltSeries, Volume

FORMAT = 1
HEADER = "header.json"
SHARE = 1 / 60  # of the time may go into checkpoints, see benchmarks/checkpoint.py
SHORTEST = 10.0  # seconds of work that a checkpoint has to save
_PROBE = 1 << 22  # bytes


# ---------------------------------------------------------------- one file


class StoredArrays(Mapping[str, Array]):
    """The arrays of a checkpoint, each read when it is asked for."""

    def __init__(self, path: Path, names: list[str]) -> None:
        self._path, self._names = path, names

    def __getitem__(self, name: str) -> Array:
        if name not in self._names:
            raise KeyError(name)
        with _reading(self._path) as archive, archive.open(f"{name}.npy") as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
            stream.read(1)  # the checksum is compared at the end
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def write_checkpoint(path: Path, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write a header (JSON values) and arrays to one file, whole or not at all.

    Raises:
        OutputError, ResourceError: the file cannot be written, the disk is full.
    """
    with whole_file(path) as aside, zipfile.ZipFile(aside, "w") as archive:
        archive.writestr(HEADER, json.dumps({"program": "recon", "format": FORMAT, "version": __version__, **header}))
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.ascontiguousarray(to_host(array)), allow_pickle=False)


def read_checkpoint(path: Path) -> tuple[dict[str, Any], StoredArrays]:
    """Header and arrays of a file of `write_checkpoint`.

    Raises:
        InputError: cut short, damaged, or written by another version.
    """
    with _reading(path) as archive:
        header = json.loads(archive.read(HEADER))
        names = [n.removesuffix(".npy") for n in archive.namelist() if n != HEADER]
    if header.get("version") != __version__ or header.get("format") != FORMAT:
        raise InputError(
            f"{path} was written by recon {header.get('version')} (format {header.get('format')}), this is "
            f"{__version__} (format {FORMAT}); finish with that version, or start anew with --overwrite"
        )
    return header, StoredArrays(path, names)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except ReconError:
        raise
    except (FileNotFoundError, PermissionError, IsADirectoryError) as exc:
        raise InputError(f"{path} cannot be read ({exc.strerror})") from exc
    except (zipfile.BadZipFile, OSError, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError) as exc:
        raise InputError(f"{path} is cut short or damaged; delete it, or start anew with --overwrite") from exc


# ---------------------------------------------------------------- when


class Schedule:
    """When a checkpoint may be written, so that all of them take at most `share` of the time.

    How long one will take is judged by the last one; before the first a few MiB are written to see.
    """

    def __init__(self, probe: Callable[[], float], share: float = SHARE, shortest: float = SHORTEST) -> None:
        self._probe, self.share, self.shortest = probe, share, shortest
        self._rate: float | None = None  # bytes a second
        self._since = time.perf_counter()
        self._next = self._since + shortest

    @property
    def early(self) -> bool:
        """True while nothing is due whatever its size; cheap, for every iteration."""
        return time.perf_counter() < self._next

    def due(self, n_bytes: int, work: float | None = None) -> bool:
        """Whether to write `n_bytes` that save `work` seconds, by default those since the last one."""
        since_last = work is None
        work = time.perf_counter() - self._since if work is None else work
        if work < self.shortest:
            return False
        if self._rate is None:
            self._rate = self._probe()
        worth = n_bytes / self._rate / self.share
        if since_last:
            self._next = self._since + max(worth, self.shortest)
        return work >= worth

    def wrote(self, n_bytes: int, seconds: float) -> None:
        """Learn from a write; small ones tell nothing of the disk's speed."""
        if n_bytes >= _PROBE:
            self._rate = n_bytes / max(seconds, 1e-6)
        self._since = time.perf_counter()
        self._next = self._since + self.shortest


# ---------------------------------------------------------------- the folder


@dataclass(frozen=True)
class Identity:
    """What a checkpoint must belong to: the job as resolved, and the hashes of its input files."""

    job: Mapping[str, Any]
    inputs: Mapping[str, str]


class Checkpoints:
    """The folder ``OUT.partial`` of one job, and what a stop signal does to a solver.

    A disk that is full or read-only ends the checkpoints, with a line in the log, and not the run.

    Args:
        target: the folder of results, ``OUT``.
        identity: see `Identity`.
        on: False writes and finds nothing; signals are still heeded.
        log: gets a line when something was found or could not be written.
        interrupts: asked for the user's wish before every iteration.
    """

    def __init__(
        self,
        target: Path,
        identity: Identity,
        *,
        on: bool = True,
        log: Callable[[str], None] = lambda line: None,
        interrupts: Interrupts | None = None,
    ) -> None:
        real = _real(target)
        self.target, self.folder = target, real.with_name(f"{real.name}.partial")
        self.identity = Identity(json.loads(json.dumps(identity.job)), dict(identity.inputs))
        self.log, self.interrupts = log, interrupts or Interrupts()
        self.schedule = Schedule(self._probe)
        self._on, self._began = on, time.perf_counter()

    def open(self, *, resume: bool, overwrite: bool) -> None:
        """Look at what an earlier run left: go on from it, clear it, or refuse.

        Raises:
            OutputError: something was left, and neither `resume` nor `overwrite` says what to do with it.
            InputError: `resume` finds checkpoints of another job, input or version, or damaged ones; with
                `overwrite` as well they are cleared instead.
        """
        if not self.folder.exists():
            return
        left = sorted(self.folder.glob("*.npz"))
        if not self.folder.is_dir() or any(
            p.suffix != ".npz" and ".partial-" not in p.name for p in self.folder.iterdir()
        ):
            raise OutputError(f"{self.folder} is in the way and not of recon; rename it, or choose another --out")
        if left and not resume and not overwrite:
            raise OutputError(
                f"{self.folder} holds checkpoints of a run that was stopped; go on with --resume, or start anew with "
                "--overwrite"
            )
        try:
            for path in left if resume else []:
                self._read(path)
        except InputError:
            if not overwrite:
                raise
            resume = False
        if not resume or not left:
            self.clear()
        for path in self.folder.glob(".*.partial-*"):  # what a killed process had not finished
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def stopped(self, what: str, *, kept: bool = False) -> StoppedError:
        """The error of a run that Ctrl-C ended."""
        later = "; --resume goes on" if self._on and any(self.folder.glob("*.npz")) else ""
        return StoppedError(f"stopped by Ctrl-C; {what}{later}", kept=kept)

    # ------------------------------------------------------------ stages

    def series(self, read: TiltSeries) -> tuple[TiltSeries, dict[str, Any]] | None:
        """The aligned series made from `read`, and what was kept with it."""
        found = self._find("series")
        if found is None:
            return None
        header, arrays = found
        changes = {n: arrays[n] for n in arrays if not n.startswith("alignment.")} | header["values"]
        changes["history"] = tuple(changes["history"])
        alignment = header["alignment"] | {
            n.removeprefix("alignment."): arrays[n] for n in arrays if n.startswith("alignment.")
        }
        alignment["doubts"] = tuple(alignment.get("doubts", ()))
        self.log(f"alignment taken from {self.folder}")
        return replace(read, **changes, alignment=Alignment(**alignment)), header["extra"]

    def keep_series(self, read: TiltSeries, series: TiltSeries, extra: Mapping[str, Any]) -> None:
        """Keep the aligned series, as far as it differs from `read`; `extra` holds JSON values."""
        values: dict[str, Any] = {}
        arrays: dict[str, Array] = {}
        for f in fields(series):
            value = getattr(series, f.name)
            if f.name == "alignment" or value is getattr(read, f.name):
                continue
            (arrays if isinstance(value, np.ndarray) else values)[f.name] = value
        alignment = {f.name: getattr(series.alignment, f.name) for f in fields(series.alignment)}
        arrays |= {f"alignment.{n}": v for n, v in alignment.items() if isinstance(v, np.ndarray)}
        plain = {n: v for n, v in alignment.items() if not isinstance(v, np.ndarray)}
        header = {"values": values, "alignment": plain, "extra": dict(extra)}
        self._keep("series", header, arrays, work=time.perf_counter() - self._began)

    def volume(self, element: str) -> Volume | None:
        """The volume of an element that was finished before."""
        found = self._find("volume", element)
        self._began = time.perf_counter()
        if found is None:
            return None
        header, arrays = found
        solution = Solution(
            arrays.get("solution"),
            Status[header["status"]],
            header["iterations"],
            [Record(**r) for r in header["history"]],
            header["parameters"],
        )
        self.log(f"{element}: finished before, taken from {self.folder}")
        return Volume(arrays["values"], header["voxel_size_nm"], element, solution)

    def keep_volume(self, volume: Volume) -> None:
        """Keep a finished element; its solver's state is no longer needed."""
        s = volume.solution
        header = {
            "voxel_size_nm": volume.voxel_size_nm,
            "status": s.status.name,
            "iterations": s.iterations,
            "history": [asdict(r) for r in s.history],
            "parameters": s.parameters,
        }
        arrays = {"values": volume.values} | ({} if s.value is None else {"solution": s.value})
        state = self._path("state", volume.element)
        work = np.inf if state.exists() else time.perf_counter() - self._began
        if self._keep("volume", header, arrays, volume.element, work):
            state.unlink(missing_ok=True)

    # ------------------------------------------------------------ solvers

    @property
    def stopping(self) -> bool:
        """Whether the user wants what there is: then nothing new is begun."""
        return self.interrupts.wish == "keep"

    def has_state(self, element: str) -> bool:
        """Whether there is a state of the solver that was at work on an element."""
        return self._on and self._path("state", element).exists()

    def restore(self, element: str, solver: Resumable) -> None:
        """Put that state into a fresh solver of the same problem.

        Raises:
            InputError: it is damaged, or of another problem.
        """
        path = self._path("state", element)
        header, arrays = self._read(path)
        try:
            values = header["values"]
            solver.restore(State(arrays, values["numbers"], [Record(**r) for r in values["history"]]))
        except InputError:
            raise
        except (ValueError, TypeError) as exc:
            raise InputError(f"{path} does not fit the job ({exc}); start anew with --overwrite") from exc
        self.log(f"{element}: going on from iteration {values['numbers']['iteration']}, saved in {self.folder}")

    def control(self, element: str) -> Callable[[Resumable], bool]:
        """What a solver asks before every iteration, see `recon.solvers.Control`; its state is kept."""

        def control(solver: Resumable) -> bool:
            if self.interrupts.wish is None and (not self._on or self.schedule.early):
                return False
            state = solver.state()
            numbers = {n: v.item() if isinstance(v, np.generic) else v for n, v in state.numbers.items()}
            values = {"numbers": numbers, "history": [asdict(r) for r in state.history]}
            return self.stop_asked("state", element, values, state.arrays)

        return control

    # ------------------------------------------------------------ anything else

    def stash(
        self, what: str, element: str, values: Mapping[str, Any], arrays: Mapping[str, Array], *, always: bool = False
    ) -> None:
        """Keep JSON values and arrays under a name, if that is due, or in any case."""
        self._keep(what, {"values": dict(values)}, arrays, element, np.inf if always else None)

    def fetch(self, what: str, element: str) -> tuple[dict[str, Any], StoredArrays] | None:
        """What was kept under a name."""
        found = self._find(what, element)
        return None if found is None else (found[0]["values"], found[1])

    def stop_asked(self, what: str, element: str, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> bool:
        """Keep it: if a stop was asked for at once, else if due. Whether the user wants what there is.

        Raises:
            SuspendedError: the run is to leave, and what it goes on from is saved.
        """
        wish = self.interrupts.wish
        self._keep(what, {"values": dict(values)}, arrays, element, None if wish is None else np.inf)
        if wish == "leave":
            raise SuspendedError(self.interrupts.cause)
        return wish == "keep"

    # ------------------------------------------------------------ files

    def _path(self, what: str, element: str = "") -> Path:
        return self.folder / f"{element + '.' if element else ''}{what}.npz"

    def _find(self, what: str, element: str = "") -> tuple[dict[str, Any], StoredArrays] | None:
        path = self._path(what, element)
        return self._read(path) if self._on and path.exists() else None

    def _read(self, path: Path) -> tuple[dict[str, Any], StoredArrays]:
        header, arrays = read_checkpoint(path)
        for what, own, other in (
            ("job", self.identity.job, header.get("job")),
            ("input", self.identity.inputs, header.get("inputs")),
        ):
            key = _difference(own, other)
            if key is not None:
                raise InputError(
                    f"{path} is a checkpoint of another {what} ({key} differs); put it back, choose another --out, or "
                    "start anew with --overwrite"
                )
        if self._path(header.get("what", ""), header.get("element", "")) != path:
            raise InputError(f"{path} has been renamed; put its name back, or start anew with --overwrite")
        return header, arrays

    def _keep(
        self, what: str, header: Mapping[str, Any], arrays: Mapping[str, Array], element: str = "",
        work: float | None = None,
    ) -> bool:  # fmt: skip
        """Write one file if that is worth it; returns whether it was written."""
        n_bytes = sum(a.nbytes for a in arrays.values()) + 1024
        if not self._on:
            return False
        try:
            if work != np.inf and not self.schedule.due(n_bytes, work):
                return False
            clock = time.perf_counter()
            self._make_folder()
            full = {
                "what": what,
                "element": element,
                "job": self.identity.job,
                "inputs": self.identity.inputs,
                **header,
            }
            write_checkpoint(self._path(what, element), full, arrays)
        except (OutputError, ResourceError) as exc:
            self._on = False
            self.log(f"no more checkpoints: {exc}")
            return False
        self.schedule.wrote(n_bytes, time.perf_counter() - clock)
        return True

    def _make_folder(self) -> None:
        with explain(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def _probe(self) -> float:
        """Bytes a second that the disk takes."""
        self._make_folder()
        clock = time.perf_counter()
        path = self.folder / f".probe.partial-{os.getpid()}"
        try:
            with explain(path), path.open("wb") as stream:
                stream.write(os.urandom(_PROBE))
                stream.flush()
                os.fsync(stream.fileno())
        finally:
            path.unlink(missing_ok=True)
        return _PROBE / max(time.perf_counter() - clock, 1e-6)


def _difference(own: Any, other: Any, where: str = "") -> str | None:
    """Name of the first key in which two values differ."""
    if isinstance(own, Mapping) and isinstance(other, Mapping):
        for key in [*own, *(k for k in other if k not in own)]:
            found = _difference(own.get(key), other.get(key), f"{where}.{key}" if where else str(key))
            if found is not None:
                return found
        return None
    return None if own == other else where or "all"


__all__ = ["Checkpoints", "Identity", "Schedule", "read_checkpoint", "write_checkpoint"]
