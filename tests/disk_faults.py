"""Run a job on a disk that answers errors (disk_shim.c, preloaded): one line of JSON for each fault.

``python disk_faults.py SHIM FOLDER PLAN``: FOLDER holds job.toml, its maps and ``earlier``, the results of an earlier
job. The calls that fail are the first of each kind on each file, once, or with all after them. PLAN is ``quick``, which
deals the errors out over the calls in turn and stubs the report, or ``full``, all of them at each call.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

from click.testing import CliRunner

import recon.report.page
from recon.cli import cli
from recon.io.folder import write_text
from recon.job.schedule import Schedule

ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.ESTALE)
TIMES = (".json", ".html", ".hspy", ".npz")  # these hold times


def digest(folder):
    """Of every file below a folder that two runs of a job write alike."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in TIMES
    }


def main(shim, folder, plan):
    Schedule.__init__.__defaults__ = (1e9, 0.0)  # keep all that can be kept
    if plan == "quick":
        recon.report.page.write_report = lambda folder, name: write_text(folder / "report.html", name)
    disk = ctypes.CDLL(shim)
    disk.disk_log.restype = ctypes.c_char_p
    disk.disk_fail.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int]
    place, out = folder / "disk", folder / "disk" / "out"
    job = str(folder / "job.toml")

    def run(*options):
        done = CliRunner().invoke(cli, ["run", job, "--out", str(out), *options])
        raised = None if done.exception is None or isinstance(done.exception, SystemExit) else repr(done.exception)
        return done.exit_code, done.stderr, raised

    def fails(n, error, sticky):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder / "earlier", out)
        disk.disk_fail(str(place).encode(), n, error, sticky)
        try:
            return run("--overwrite")
        finally:
            calls.append(disk.disk_log().decode().replace(str(place), "").splitlines())
            disk.disk_fail(b"", 0, 0, 0)

    calls = []
    fails(0, 0, 0)
    right, before = digest(out), digest(folder / "earlier")
    points = {}
    for n, call in enumerate(calls[0], 1):
        points.setdefault(re.sub(r"\d+", "0", call), n)
    for k, (call, n) in enumerate(points.items()):
        for error in ERRORS if plan == "full" else [ERRORS[k % 4]]:
            for sticky in (0, 1) if plan == "full" else [k // 2 % 2]:
                status, said, raised = fails(n, error, sticky)
                found = digest(out) if out.exists() else None
                kept = any(digest(p) == before for p in place.iterdir() if p.name.startswith(".out.old-"))
                again = finished = raised_again = None
                if plan == "full" or k % 3 == 0 or found != before:
                    again, _, raised_again = run("--resume", "--overwrite")
                    finished = digest(out) == right
                outcome = {
                    "call": call, "error": errno.errorcode[error], "sticky": sticky,
                    "status": status, "said": said, "raised": raised or raised_again,
                    "found": "earlier" if found == before else "new" if found == right else repr(found),
                    "kept_aside": kept, "again": again, "finished": finished,
                }  # fmt: skip
                print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
