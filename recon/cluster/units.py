"""What is run: jobs, each as a whole or in parts that go on from what the others kept."""

from __future__ import annotations

import glob
import json
import os
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.errors import JobError

if TYPE_CHECKING:
    from recon.job.pipeline import Part

STAGES = ("align", "element", "finish", "all")


@dataclass(frozen=True)
class Unit:
    """One process's part of a job.

    Attributes:
        job: the job file, as the user named it.
        stage: ``"align"``, ``"element"`` (with `element`), ``"finish"`` or ``"all"``.
        element: name, where one is reconstructed.
        out: folder of results; None for the job's own.
        changes: keys of the job file with other values, ``{"reconstruct.strength": 2.0}``.
        aligned: file of the aligned series, where jobs share one.
    """

    job: str
    stage: str = "all"
    element: str = ""
    out: Path | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    aligned: Path | None = None

    @property
    def name(self) -> str:
        """For people."""
        what = {"all": "", "align": "alignment", "element": self.element, "finish": "results"}[self.stage]
        return f"{self.job} {what}".rstrip()

    def part(self) -> Part:
        """The same as `recon.job.pipeline.run_job` takes it; what other units are to make is waited for."""
        from recon.job.pipeline import Part

        elements = (self.element,) if self.stage == "element" else ()
        return Part(self.stage == "align", elements, self.aligned, self.stage in ("element", "finish"))

    def arguments(self) -> list[str]:
        """Of ``recon run``."""
        words = ["run", self.job]
        if self.out is not None:
            words += ["--out", str(self.out)]
        if self.stage in ("align", "finish"):
            words += ["--stage", self.stage]
        if self.stage == "element":
            words += ["--element", self.element]
        for key, value in self.changes.items():
            words += ["--set", f"{key}={json.dumps(value)}"]
        return words


class State(Enum):
    """How far a job has come."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass
class Task:
    """One job of the batch, as far as it has come."""

    job: str
    out: Path | None = None
    elements: tuple[str, ...] = ()
    split: bool = False
    together: bool = False  # its elements, which are coupled
    waiting: list[Unit] = field(default_factory=list)
    running: int = 0
    status: int = 0
    state: State = State.WAITING
    said: str = ""  # the last error
    began: float = 0.0
    seconds: float = 0.0

    @property
    def over(self) -> bool:
        return not self.waiting and not self.running


def expand(patterns: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Job files of names and glob patterns (``**`` goes into folders), in order, each once.

    Raises:
        JobError: a pattern that fits no file.
    """
    found: dict[str, None] = {}
    for pattern in [os.fspath(p) for p in patterns]:
        if os.path.exists(pattern) or not glob.has_magic(pattern):
            found[pattern] = None  # a name that does not exist is said where it is read
            continue
        fitting = sorted(p for p in glob.glob(os.path.expanduser(pattern), recursive=True) if os.path.isfile(p))
        if not fitting:
            raise JobError(f"{pattern} fits no file; check the pattern and the folder")
        found |= dict.fromkeys(fitting)
    return list(found)


def names_of(jobs: Sequence[str], *, plain: bool = False) -> list[str]:
    """A name for each job, for its results among those of the others.

    It is that of the file, with as many of the folders that it lies in as tell it from the others: of ``day1/job.toml``
    and ``day2/job.toml``, ``day1-job`` and ``day2-job``.

    Args:
        plain: only letters, digits and ``_.-``.

    Raises:
        JobError: a file is there twice, or two names are too alike.
    """
    seen: dict[Path, str] = {}
    for n, job in enumerate(jobs):
        first = seen.setdefault(Path(job).resolve(), job)
        if len(seen) == n:  # not by `is`: Python may keep equal names as one object
            raise JobError(f"{first} and {job} are the same file; name it once")
    parts = [(*path.parent.parts[1:], path.stem) for path in seen]
    depths, longer = [0] * len(parts), [1] * len(parts)
    names: list[str] = []
    while longer != depths:
        depths = longer
        names = ["-".join(p[-n:]) for p, n in zip(parts, depths, strict=True)]
        if plain:
            names = [re.sub(r"[^\w.-]", "_", name) for name in names]
        longer = [min(n + (names.count(name) > 1), len(p)) for n, name, p in zip(depths, names, parts, strict=True)]
    for k, name in enumerate(names):
        if names.index(name) < k:
            raise JobError(f"{jobs[names.index(name)]} and {jobs[k]} have names that are too alike; rename one")
    return names


def parse_changes(words: Sequence[str]) -> dict[str, Any]:
    """``["reconstruct.strength=2", "align.method=none"]`` as values; what is no TOML value is text.

    Raises:
        JobError: a word without ``KEY=``.
    """
    out: dict[str, Any] = {}
    for word in words:
        key, sign, text = word.partition("=")
        if not sign or "." not in key.strip():
            raise JobError(f"--set {word}: it takes TABLE.KEY=VALUE, such as reconstruct.strength=2")
        try:
            value = tomllib.loads(f"v = {text}")["v"]
        except tomllib.TOMLDecodeError:
            value = text
        out[key.strip()] = value
    return out


def recon_command() -> list[str]:
    """How this very program is called."""
    return [sys.executable, "-m", "recon"]


__all__ = ["STAGES", "State", "Task", "Unit", "expand", "names_of", "parse_changes", "recon_command"]
