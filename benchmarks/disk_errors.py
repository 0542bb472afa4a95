"""A disk that is full, failing, read-only or gone at every call of a command that writes: what comes of it.

    python benchmarks/disk_errors.py [--only run,maps] [--every 1] [--all-errors] [--output FILE]

The calls that fail are the first of each kind (open, write, truncate, fsync, rename, mkdir, unlink) on each file, once
or from then on; ENOSPC, EIO, EROFS and ESTALE are dealt out in turn, or with --all-errors each is tried at each. What
must hold: one line of error and a status that is not 0, or status 0 and the right files; nothing half written: what was
there before is as it was, or what should come is whole; and the same command, run again once the disk is in order
(with --resume, where the command has it), ends with status 0 and the right files. FILE keeps what an earlier run found
of other commands.

Needs Linux and gcc: tests/disk_shim.c is compiled and put between the program and the disk.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.ESTALE)
HOLD_TIMES = (".json", ".html", ".hspy", ".npz", ".csv", ".png", ".zip", ".log")  # differ from run to run
SERIES = '[input]\nmaps = { Co = "Co.npy", Zn = "Zn.npy" }\ntilts = "tilts.rawtlt"\npixel_size_nm = 5.0\n'
QUICK = '[align]\nmethod = "none"\n[reconstruct]\nmethod = "tv"\nstrength = 0.5\nmax_iterations = 5\n'
EVERYTHING = '[output]\nformats = ["tiff", "mrc", "hspy", "ome-zarr"]\nalignment = ["xf"]\n'


@dataclass(frozen=True)
class Command:
    """A command, what is on the disk before it, and how it is gone on with.

    Attributes:
        words: its arguments, given the folder on the disk.
        again: those of the next try, where they differ.
        before: puts files on the disk.
        inner: where the results are, below the disk.
        several: they are several, each of which is whole or as it was, and finished ones are kept.
    """

    words: Callable[[Path], list[str]]
    again: Callable[[Path], list[str]] | None = None
    before: Callable[[Path, Path], None] = lambda base, disk: None
    inner: str = "out"
    several: bool = False


def prepare(base: Path) -> None:
    """Everything that the commands read."""
    import numpy as np

    sys.path.insert(0, str(ROOT / "tests"))
    from eds import write_hspy
    from tilted_spectra import write_series

    from recon.simulate import simulate

    series, _ = simulate(size=16, seed=0, drift=1)
    for element, counts in zip(series.elements, series.counts, strict=True):
        np.save(base / f"{element}.npy", counts)
    np.savetxt(base / "tilts.rawtlt", series.tilts_deg)
    for name in "ab":
        (base / f"{name}.toml").write_text(f'regions = "none"\n{SERIES}{QUICK}[output]\nreport = false\n')
    (base / "formats.toml").write_text(f'regions = "none"\n{SERIES}{QUICK}{EVERYTHING}report = false\n')
    (base / "whole.toml").write_text(f"{SERIES}{QUICK}")
    spectra = base / "spectra"
    spectra.mkdir()
    write_series(spectra, writer=write_hspy)
    (base / "spectra.toml").write_text('[input]\nspectra = "spectra/*.hspy"\nlines = ["Fe_Ka"]\n')
    (base / "earlier").mkdir()
    (base / "earlier" / "Co.tif").write_bytes(b"earlier results")
    (base / "earlier" / "job.json").write_text("{}")
    scheduler = base / "bin"
    scheduler.mkdir()
    for name, said in {"sbatch": "echo 7", "scancel": "exit 0", "sinfo": "exit 1", "squeue": "exit 1"}.items():
        (scheduler / name).write_text(f"#!/bin/sh\n{said}\n")
        (scheduler / name).chmod(0o755)
    os.environ["PATH"] = f"{scheduler}:{os.environ['PATH']}"


def commands(base: Path) -> dict[str, Command]:
    def toml(name: str) -> str:
        return str(base / f"{name}.toml")

    def earlier(_: Path, disk: Path) -> None:
        shutil.copytree(base / "earlier", disk / "out")

    def finished(_: Path, disk: Path) -> None:
        made(base / "finished", ["run", toml("whole"), "--out", str(base / "finished")])
        shutil.copytree(base / "finished", disk / "out")

    def left(_: Path, disk: Path) -> None:
        """A run that had to leave: its state is kept."""
        made(base / "left" / "out.partial", ["run", toml("a"), "--out", str(base / "left" / "out"), "--element", "Co"])
        shutil.copytree(base / "left", disk, dirs_exist_ok=True)

    def submission(_: Path, disk: Path) -> None:
        folder = base / "submission"
        if not folder.exists():
            invoke(["submit", toml("a"), "--folder", str(folder), "--out", str(base / "of-tasks"), "--dry-run"])
            for row in range(1, 5):
                invoke(["task", str(folder / "manifest.csv"), str(row)])
        disk.mkdir(exist_ok=True)

    def run(name: str) -> Command:
        return Command(
            lambda disk: ["run", toml(name), "--out", str(disk / "out"), "--overwrite"],
            lambda disk: ["run", toml(name), "--out", str(disk / "out"), "--overwrite", "--resume"],
            earlier,
        )

    return {
        "run": run("whole"),
        "formats": run("formats"),
        "first": Command(
            lambda disk: ["run", toml("a"), "--out", str(disk / "new" / "out")],
            lambda disk: ["run", toml("a"), "--out", str(disk / "new" / "out"), "--resume"],
            inner="new/out",
        ),
        "resume": Command(lambda disk: ["run", toml("a"), "--out", str(disk / "out"), "--resume"], before=left),
        "maps": Command(lambda disk: ["maps", toml("spectra"), "--out", str(disk / "out")]),
        "maps again": Command(
            lambda disk: ["maps", toml("spectra"), "--out", str(disk / "out"), "--overwrite"], before=earlier
        ),
        "check": Command(lambda disk: ["check", toml("spectra"), "--picture", str(disk / "out.png")], inner="out.png"),
        "report": Command(lambda disk: ["report", str(disk / "out")], before=finished),
        "compare": Command(
            lambda disk: ["report", str(disk / "out"), str(base / "finished"), "--out", str(disk / "page.html")],
            before=finished,
            inner="page.html",
        ),
        "demo": Command(
            lambda disk: ["demo", "--size", "16", "--out", str(disk / "out"), "--overwrite"], before=earlier
        ),
        "batch": Command(
            lambda disk: ["run", toml("a"), toml("b"), "--out", str(disk / "out")],
            lambda disk: ["run", toml("a"), toml("b"), "--out", str(disk / "out"), "--resume"],
            several=True,
        ),
        "submit": Command(
            lambda disk: ["submit", toml("a"), "--folder", str(disk / "out"), "--out", str(disk / "results")]
        ),
        "task": Command(
            lambda disk: ["task", str(disk / "sub" / "manifest.csv"), "1"],
            before=lambda _, disk: made(
                disk / "sub", ["submit", toml("a"), "--folder", str(disk / "sub"), "--out", str(disk), "--dry-run"]
            ),
            inner="sub/aligned",
            several=True,
        ),
        "gather": Command(
            lambda disk: ["gather", str(base / "submission"), "--out", str(disk / "out")], before=submission
        ),
    }  # fmt: skip


# ---------------------------------------------------------------- one command


def invoke(words: list[str]) -> tuple[int, str, str | None]:
    from click.testing import CliRunner

    from recon.cli import cli

    done = CliRunner().invoke(cli, words)
    raised = None if done.exception is None or isinstance(done.exception, SystemExit) else repr(done.exception)
    return done.exit_code, done.stderr, raised


def made(folder: Path, words: list[str]) -> None:
    """Run a command once, unless what it makes is there."""
    if not folder.exists():
        status, said, raised = invoke(words)
        assert status == 0, (words, said, raised)


State = dict[str, str] | None


def state(place: Path) -> State:
    """Of each file its digest, or of one that holds times whether it can be read."""
    if not place.exists():
        return None
    files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
    return {str(p.relative_to(place)): _content(p) for p in files}


def _content(path: Path) -> str:
    data = path.read_bytes()
    if path.suffix == ".json":
        json.loads(data)
    elif path.suffix == ".html":
        assert data.rstrip().endswith(b"</html>"), f"{path} is cut off"
    elif path.suffix == ".png":
        assert data.endswith(b"IEND\xaeB`\x82"), f"{path} is cut off"
    data = data[1024:] if path.suffix == ".mrc" else data  # its header says when it was written
    return "times" if path.suffix in HOLD_TIMES else hashlib.sha256(data).hexdigest()


def is_whole(found: State, before: State, right: State) -> bool:
    """Whether each of several results is as it was or as it should be; what has no name yet is looked at later."""

    def results(files: State) -> dict[str, dict[str, str]]:
        by_name: dict[str, dict[str, str]] = {}
        for name, digest in (files or {}).items():
            if not re.match(r"\..*\.partial", Path(name).name):
                by_name.setdefault(name.split("/")[0], {})[name] = digest
        return by_name

    was, should = results(before), results(right)
    return all(files in (was.get(name), should.get(name)) for name, files in results(found).items())


def faults(command: Command, base: Path, disk: ctypes.CDLL, all_errors: bool, every: int) -> Iterator[dict[str, Any]]:
    place = base / "disk"
    calls: list[list[str]] = []

    def put() -> None:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        command.before(base, place)

    def fails(n: int, error: int, sticky: int) -> tuple[int, str, str | None]:
        put()
        disk.disk_fail(str(place).encode(), n, error, sticky)
        try:
            return invoke(command.words(place))
        finally:
            calls.append(disk.disk_log().decode().replace(str(place), "").splitlines())
            disk.disk_fail(b"", 0, 0, 0)

    put()
    before = state(place / command.inner)
    status, said, raised = fails(0, 0, 0)
    assert status == 0, (said, raised)
    right = state(place / command.inner)
    points: dict[str, int] = {}
    for n, call in enumerate(calls[0], 1):
        points.setdefault(re.sub(r"\d+", "0", call), n)
    for k, (call, n) in list(enumerate(points.items()))[::every]:
        kinds = [(e, s) for e in ERRORS for s in (0, 1)] if all_errors else [(ERRORS[k % 4], k // 4 % 2)]
        for error, sticky in kinds:
            status, said, raised = fails(n, error, sticky)
            wrong = [f"traceback: {raised}"] if raised or "Traceback" in said else []
            if "fault of recon" in said:
                wrong.append("traceback: " + said.splitlines()[-1])
            if status and sum(line.startswith("error: ") for line in said.splitlines()) != 1:
                wrong.append(f"not one line of error: {said[-300:]!r}")
            stuck, found = False, None
            try:
                found = state(place / command.inner)
                aside = [p for p in place.rglob(".*.old-*") if state(p) == before]
                # where a disk fails for good while folders change places the earlier one keeps a hidden name
                # what a submission has made cannot be removed, and is told
                stuck = bool(status and sticky and "submitted.json" in (right or {}))
                kept = bool(status and (aside or (command.several and is_whole(found, before, right))))
                if found not in ([right] if status == 0 else [before, right]) and not kept and not stuck:
                    wrong.append(f"status {status} and {'the wrong' if status == 0 else 'half written'} files")
            except (ValueError, AssertionError, OSError) as exc:
                wrong.append(f"half written: {exc}")
            again, said_again, raised = invoke((command.again or command.words)(place))
            done_before = status == 0 or found == right or stuck
            if again and not (done_before and "exists" in said_again):
                wrong.append(f"the next try failed: {raised or said_again.splitlines()[-1]}")
            elif state(place / command.inner) != right and not stuck:
                wrong.append("the next try left other files")
            if not stuck and (left := [p.name for p in place.rglob(".*.partial-*")]):
                wrong.append(f"left behind after the next try: {left}")
            yield {
                "call": call, "error": errno.errorcode[error], "for good": bool(sticky), "status": status,
                "wrong": wrong,
                "said": said.splitlines()[-1:] if wrong else [],
            }  # fmt: skip


def child(shim: str, base: Path, names: list[str], all_errors: bool, every: int) -> None:
    from recon.job.schedule import Schedule

    Schedule.__init__.__defaults__ = (1e9, 0.0)  # keep all that can be kept
    disk = ctypes.CDLL(shim)
    disk.disk_log.restype = ctypes.c_char_p
    disk.disk_fail.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int]
    prepare(base)
    os.chdir(base)
    known = commands(base)
    for name in names or known:
        for outcome in faults(known[name], base, disk, all_errors, every):
            print(json.dumps({"command": name, **outcome}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="a failing disk under every command that writes")
    parser.add_argument("--only", default="", help="commands, with commas between them")
    parser.add_argument("--every", type=int, default=1, help="try one call in so many")
    parser.add_argument("--all-errors", action="store_true", help="all errors at each call, once and for good")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    names = [n for n in args.only.split(",") if n]
    if args.child:
        child(args.child[0], Path(args.child[1]), names, args.all_errors, args.every)
        return
    with tempfile.TemporaryDirectory() as base:
        shim = Path(base, "disk.so")
        source = ROOT / "tests" / "disk_shim.c"
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True)
        environment = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1", "LD_PRELOAD": str(shim)}
        words = [sys.executable, __file__, "--child", str(shim), str(Path(base).resolve())]
        words += ["--only", args.only, "--every", str(args.every)] + ["--all-errors"] * args.all_errors
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        outcomes: dict[str, list[dict[str, Any]]] = {}
        earlier = json.loads(args.output.read_text()) if args.output and args.output.exists() else {}
        for line in process.stdout:
            outcome = json.loads(line.replace(f"{Path(base).resolve()}/", ""))  # names no folder of this machine
            outcomes.setdefault(outcome.pop("command"), []).append(outcome)
            if outcome["wrong"]:
                print(line, end="", flush=True)
            if args.output:  # what there is, should it be stopped
                done = {name: summary(of) for name, of in outcomes.items()}
                args.output.write_text(json.dumps(earlier | done, indent=1) + "\n")
        assert process.wait() == 0
    for name, of in outcomes.items():
        print(f"{name}: {len(of)} faults, {sum(bool(o['wrong']) for o in of)} went wrong")


def summary(outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """Of one command."""
    return {"faults tried": len(outcomes), "went wrong": [o for o in outcomes if o["wrong"]]}


if __name__ == "__main__":
    main()
