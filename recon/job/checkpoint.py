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
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from recon.backend import Array
from recon.errors import InputError, OutputError, ResourceError, StoppedError, SuspendedError
from recon.files import from_json, to_json
from recon.io.folder import _real, discard, explain
from recon.job.checkpoint_file import StoredArrays, read_checkpoint, write_checkpoint
from recon.job.checkpoint_parts import SUFFIX, SavedArrays, discard_parts, write_parts
from recon.job.interrupts import Interrupts
from recon.job.schedule import PROBE, Schedule
from recon.reconstruction.keeper import Parts
from recon.report.record import ElementRecord
from recon.series.alignment import Alignment
from recon.series.tilt_series import TiltSeries
from recon.series.volume import Volume
from recon.solvers import Record, Resumable, State

# of a job, what makes no difference to its aligned series
AFTER_ALIGNMENT = ("job_file", "preset", "reconstruct", "mask", "regions", "output")

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
        staged: the run does a part of the job, and another process goes on from what it keeps: the series and finished
            volumes are kept however little work they took.
        aligned: file of the series, by default in the folder; jobs that differ only after their alignment share one.
    """

    def __init__(
        self,
        target: Path,
        identity: Identity,
        *,
        on: bool = True,
        log: Callable[[str], None] = lambda line: None,
        interrupts: Interrupts | None = None,
        staged: bool = False,
        aligned: Path | None = None,
    ) -> None:
        real = _real(target)
        self.target, self.folder = target, real.with_name(f"{real.name}.partial")
        self.identity = Identity(json.loads(json.dumps(identity.job)), dict(identity.inputs))
        self.log, self.interrupts = log, interrupts or Interrupts()
        self.schedule = Schedule(self._probe)
        self.staged, self.aligned = staged, aligned
        self._on, self._began = on or staged, {"": time.perf_counter()}  # by element
        self._writing = threading.Lock()  # elements may be at work side by side

    def open(self, *, resume: bool, overwrite: bool, element: str | None = None) -> None:
        """Look at what an earlier run left: go on from it, clear it, or refuse.

        With an `element`, others may be at work in the same folder, and only what is of this one is cleared.

        Raises:
            OutputError: something was left, and neither `resume` nor `overwrite` says what to do with it.
            InputError: `resume` finds checkpoints of another job, input or version, or damaged ones; with
                `overwrite` as well they are cleared instead.
        """
        with explain(self.folder):
            self._open(resume, overwrite, element)

    def _open(self, resume: bool, overwrite: bool, element: str | None) -> None:
        if not self.folder.exists():
            return
        left = sorted(self.folder.glob("*.npz"))
        if not self.folder.is_dir() or any(
            p.suffix not in (".npz", ".lock", SUFFIX) and ".partial-" not in p.name for p in self.folder.iterdir()
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
            self.clear(element)
        self._sweep(element)

    def clear(self, element: str | None = None) -> None:
        """Remove the checkpoints, or those of one element, and the folder once it is empty."""
        for path in self.folder.glob("*.npz" if element is None else f"{element}.*.npz"):
            discard(path)
            discard_parts(path)
        self._sweep(element)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _sweep(self, element: str | None) -> None:
        """Remove what a killed process had not finished."""
        for part in self.folder.glob(f"*{SUFFIX}" if element is None else f"{element}.*{SUFFIX}"):
            path = part.with_name(f"{part.name.rsplit('.', 2)[0]}.npz")
            discard_parts(path, read_checkpoint(path)[0].get("parts") if path.exists() else None)
        for path in self.folder.glob(".*.partial-*" if element is None else f".{element}.*.partial-*"):
            discard(path)

    def stopped(self, what: str, *, kept: bool = False) -> StoppedError:
        """The error of a run that Ctrl-C ended."""
        later = "; --resume goes on" if self._on and any(self.folder.glob("*.npz")) else ""
        return StoppedError(f"stopped by Ctrl-C; {what}{later}", kept=kept)

    # ------------------------------------------------------------ stages

    def series(self, read: TiltSeries) -> tuple[TiltSeries, dict[str, float]] | None:
        """The aligned series made from `read`, and how long its stages took."""
        found = self._find("series")
        if found is None:
            return None
        header, arrays = found
        changes = {n: arrays[n] for n in arrays if not n.startswith("alignment.")} | header["values"]
        changes = {n: _tuples(v) for n, v in changes.items()}
        alignment = header["alignment"] | {
            n.removeprefix("alignment."): arrays[n] for n in arrays if n.startswith("alignment.")
        }
        if "scheme" in arrays:
            assert read.scheme is not None
            changes["scheme"] = read.scheme.from_astra(arrays["scheme"], read.scheme.detector, read.scheme.volume)
        alignment["doubts"] = tuple(alignment.get("doubts", ()))
        self.log(f"alignment taken from {self.folder}")
        return replace(read, **changes, alignment=Alignment(**alignment)), header["timings"]

    def keep_series(self, read: TiltSeries, series: TiltSeries, timings: Mapping[str, float]) -> None:
        """Keep the aligned series, as far as it differs from `read`, and how long its stages took."""
        values: dict[str, Any] = {}
        arrays: dict[str, Array] = {}
        for f in fields(series):
            value = getattr(series, f.name)
            if f.name in ("alignment", "scene") or value is getattr(read, f.name):
                continue
            if f.name == "scheme":
                value = value.to_astra()
            (arrays if isinstance(value, np.ndarray) else values)[f.name] = value
        alignment = {f.name: getattr(series.alignment, f.name) for f in fields(series.alignment)}
        arrays |= {f"alignment.{n}": v for n, v in alignment.items() if isinstance(v, np.ndarray)}
        plain = {n: v for n, v in alignment.items() if not isinstance(v, np.ndarray)}
        header = {"values": values, "alignment": plain, "timings": dict(timings)}
        self._keep("series", header, arrays, work=np.inf if self.staged else time.perf_counter() - self._began[""])

    def volume(self, element: str) -> Volume | None:
        """The volume of an element that was finished before."""
        found = self._find("volume", element)
        self._began[element] = time.perf_counter()
        self.schedule.begin(element)
        if found is None:
            return None
        header, arrays = found
        made = from_json(ElementRecord, header["made"], self._path("volume", element), "start anew with --overwrite")
        solution = made.solution(arrays.get("solution"))
        self.log(f"{element}: finished before, taken from {self.folder}")
        return Volume(arrays["values"], header["voxel_size_nm"], element, solution)

    def keep_volume(self, volume: Volume) -> None:
        """Keep a finished element; its solver's state is no longer needed."""
        made = volume.made
        header = {"voxel_size_nm": volume.voxel_size_nm, "made": to_json(ElementRecord.of(made))}
        arrays = {"values": volume.values} | ({} if made.value is None else {"solution": made.value})
        state = self._path("state", volume.element)
        began = self._began.get(volume.element, self._began[""])
        work = np.inf if self.staged or state.exists() else time.perf_counter() - began
        if self._keep("volume", header, arrays, volume.element, work):
            discard(state)
            discard_parts(state)

    # ------------------------------------------------------------ solvers

    @property
    def stopping(self) -> bool:
        """Whether the user wants what there is: then nothing new is begun."""
        return self.interrupts.wish == "keep"

    @property
    def stop_wanted(self) -> bool:
        """Whether a signal asked the run to stop, to end with what there is or to go on later."""
        return self.interrupts.wish is not None

    def patience(self) -> contextlib.AbstractContextManager[None]:
        """See `Interrupts.patience`."""
        return self.interrupts.patience()

    def has_state(self, element: str) -> bool:
        """Whether there is a state of the solver that was at work on an element."""
        return self.has("state", element)

    def restore(self, element: str, solver: Resumable) -> None:
        """Put that state into a fresh solver of the same problem.

        Raises:
            InputError: it is damaged, or of another problem.
        """
        path = self._path("state", element)
        header, _ = self._read(path)
        try:
            values, saved = header["values"], SavedArrays(path, header)
            solver.restore(State(saved, values["numbers"], [Record(**r) for r in values["history"]]))
        except InputError:
            raise
        except (ValueError, TypeError) as exc:
            raise InputError(f"{path} does not fit the job ({exc}); start anew with --overwrite") from exc
        self.log(f"{element}: going on from iteration {values['numbers']['iteration']}, saved in {self.folder}")

    def control(self, element: str) -> Callable[[Resumable], bool]:
        """What a solver asks before every iteration, see `recon.solvers.Control`; its state is kept."""

        def control(solver: Resumable) -> bool:
            if self.interrupts.wish is None and (not self._on or self.schedule.early(element)):
                return False
            state = solver.state()
            values = {"numbers": dict(state.numbers), "history": [asdict(r) for r in state.history]}
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
        """Keep values and arrays, at once if a stop was asked for, else when due; whether the user wants what there is.

        Raises:
            SuspendedError: the run is to leave, and what it goes on from is saved.
        """
        wish = self.interrupts.wish
        self._keep(what, {"values": dict(values)}, arrays, element, None if wish is None else np.inf)
        if wish == "leave":
            raise SuspendedError(self.interrupts.cause)
        return wish == "keep"

    # ------------------------------------------------------------ files

    def has(self, what: str, element: str = "") -> bool:
        """Whether there is a checkpoint of that name."""
        return self._on and self._path(what, element).exists()

    def _path(self, what: str, element: str = "") -> Path:
        if what == "series" and self.aligned is not None:
            return self.aligned
        return self.folder / f"{element + '.' if element else ''}{what}.npz"

    def _find(self, what: str, element: str = "") -> tuple[dict[str, Any], StoredArrays] | None:
        path = self._path(what, element)
        return self._read(path) if self.has(what, element) else None

    def _read(self, path: Path) -> tuple[dict[str, Any], StoredArrays]:
        header, arrays = read_checkpoint(path)
        own_job, job = self.identity.job, header.get("job")
        if path == self.aligned:
            own_job, job = ({k: v for k, v in (j or {}).items() if k not in AFTER_ALIGNMENT} for j in (own_job, job))
        for what, own, other in (("job", own_job, job), ("input", self.identity.inputs, header.get("inputs"))):
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
        with self._writing:
            return self._write(what, header, arrays, element, work)

    def _write(
        self, what: str, header: Mapping[str, Any], arrays: Mapping[str, Array], element: str, work: float | None
    ) -> bool:
        n_bytes = sum(a.nbytes for a in arrays.values()) + 1024  # of ranks, those of this one
        if not self._on:
            return False
        try:
            if work != np.inf and not self.schedule.due(n_bytes, work, element):
                return False
            clock = time.perf_counter()
            self._make_folder(self._path(what, element).parent)
            full = {
                "what": what,
                "element": element,
                "job": self.identity.job,
                "inputs": self.identity.inputs,
                **header,
            }
            path = self._path(what, element)
            if isinstance(arrays, Parts):
                full["parts"] = write_parts(path, arrays)
            write_checkpoint(path, full, {} if isinstance(arrays, Parts) else arrays)
            discard_parts(path, full.get("parts"))
        except (OutputError, ResourceError) as exc:
            self._on = False
            self.log(f"no more checkpoints: {exc}")
            return False
        self.schedule.wrote(n_bytes, time.perf_counter() - clock, element)
        return True

    def _make_folder(self, folder: Path | None = None) -> None:
        with explain(folder or self.folder):
            (folder or self.folder).mkdir(parents=True, exist_ok=True)

    def _probe(self) -> float:
        """Bytes a second that the disk takes."""
        self._make_folder()
        clock = time.perf_counter()
        path = self.folder / f".probe.partial-{os.getpid()}"
        try:
            with explain(path), path.open("wb") as stream:
                stream.write(os.urandom(PROBE))
                stream.flush()
                os.fsync(stream.fileno())
        finally:
            discard(path)
        return PROBE / max(time.perf_counter() - clock, 1e-6)


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were in a record."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


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
