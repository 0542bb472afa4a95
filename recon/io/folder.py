"""Results appear whole or not at all: written aside, flushed to disk, then renamed into place.

Whatever the disk answers on the way comes out as one line: everything that is written goes through `OutputFolder` or
`whole_file`, and these through `explain`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from recon.errors import OutputError, ReconError, ResourceError
from recon.files import error_number

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

MARK = "job.json"  # a folder with this file in it is a result of ours and may be replaced

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ELSEWHERE = "choose another folder"
_REMEDIES = {
    errno.EIO: "the disk is failing: " + _ELSEWHERE + " on another one",
    errno.EROFS: _ELSEWHERE + " on a disk that may be written",
    errno.ESTALE: "the network disk was lost: run again when it is back, or " + _ELSEWHERE,
    errno.ENAMETOOLONG: "choose a shorter name",
}
_in_use: set[Path] = set()  # working folders of this process


class OutputFolder:
    """A folder that appears under its name only when everything in it has been written.

    ``with OutputFolder("out") as folder:`` gives a hidden working folder ``.out.partial-HOST-PID`` beside
    ``out``. When the block ends, its files are flushed to disk and it is renamed to ``out``; with
    ``overwrite`` the old folder is first renamed aside, put back if anything fails, and deleted last. When
    the block raises (Ctrl-C too) the working folder is removed and nothing else has changed. What a
    killed process on this machine left beside ``out`` is cleared the next time.

    Raises:
        OutputError: `path` exists, is not empty (and `overwrite` is False, or it is not a result of ours), or may not
            be written, or is a file.
        ResourceError: the disk is full.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self.overwrite = overwrite
        self._target = _real(path)
        self._partial = _beside(self._target, "partial")
        self._parents: list[Path] = []

    def __enter__(self) -> Path:
        check_target(self.path, overwrite=self.overwrite)
        if self._partial in _in_use:
            raise OutputError(f"{self.path} is being written already; choose another folder")
        with explain(self.path):
            self._parents = [p for p in self._target.parents if not p.exists()]
            try:
                self._target.parent.mkdir(parents=True, exist_ok=True)
                self._partial.mkdir()
            except BaseException:
                self._remove()
                raise
        _in_use.add(self._partial)
        return self._partial

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        try:
            with explain(self.path):
                if isinstance(exc, Exception):
                    raise exc  # what a disk answered to a library, among others
                if exc is None:
                    self._publish()
        except BaseException as worded:
            if worded is not exc:
                raise
        finally:
            _in_use.discard(self._partial)
            if self._partial.exists():
                self._remove()

    def _publish(self) -> None:
        _flush_tree(self._partial)
        check_target(self.path, overwrite=self.overwrite)  # someone may have been quicker
        old = _beside(self._target, "old")
        replaced = self._target.exists()
        try:
            if replaced:
                self._target.rename(old)
            self._partial.rename(self._target)
            _flush(self._target.parent)
        except BaseException as failed:
            try:
                if self._target.exists() and (old.exists() or not replaced):
                    self._target.rename(self._partial)
                if old.exists():
                    old.rename(self._target)
            except OSError:
                if old.exists() and isinstance(failed, OSError):  # `check_target` puts it back
                    why = " ".join(str(failed.strerror or failed).split())
                    raise OutputError(
                        f"{self.path} cannot be replaced ({why}); the earlier results are kept in {old}, and the next "
                        "run that writes there puts them back"
                    ) from failed
            raise
        if replaced:
            shutil.rmtree(old, ignore_errors=True)

    def _remove(self) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)
        for parent in self._parents:  # the nearest first; one that holds something stays
            with contextlib.suppress(OSError):
                parent.rmdir()


def check_target(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Say before a run whether results may go to `path`, and clear what killed processes left beside it.

    Raises:
        OutputError: see `OutputFolder`.
    """
    target = _real(path)
    with explain(path):
        _clear(target)
        if not target.exists():
            nearest = next(p for p in target.parents if p.exists())
            if not nearest.is_dir():
                raise OutputError(f"{path} cannot be made, {nearest} is a file; choose another folder")
            if not os.access(nearest, os.W_OK | os.X_OK):
                raise OutputError(f"{path} cannot be made, {nearest} may not be written; choose another folder")
            return
        if not target.is_dir():
            raise OutputError(f"{path} is a file; choose another name for the folder of results")
        if not any(target.iterdir()):
            pass  # somebody made a folder for the results
        elif not overwrite:
            raise OutputError(f"{path} exists; choose another folder, or overwrite it (--overwrite, overwrite=True)")
        elif not (target / MARK).is_file():
            raise OutputError(
                f"{path} holds files but no {MARK}, so it is not a result of recon and stays; choose another folder"
            )
        if not os.access(target.parent, os.W_OK | os.X_OK):
            raise OutputError(f"{path} cannot be replaced, {target.parent} may not be written; choose another folder")


def check_disk(folder: str | os.PathLike[str], needed_bytes: int) -> None:
    """Raise ResourceError if the disk that will hold `folder` has less than `needed_bytes` free."""
    target = _real(folder)
    with explain(folder):
        free = shutil.disk_usage(next(p for p in (target, *target.parents) if p.exists())).free
    if needed_bytes > free:
        raise ResourceError(
            f"results in {folder} need {_size(needed_bytes)}, the disk has {_size(free)} free; free some space or "
            "choose a folder on another disk"
        )


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a single file whole or not at all: yields a hidden name beside it, renamed when the block ends."""
    target = Path(path)
    aside = target.with_name(f".{target.name}.partial-{os.getpid()}")
    old = target.with_name(f".{target.name}.old-{os.getpid()}")
    try:
        with explain(path):
            yield aside
            _flush_tree(aside)
            if aside.is_dir() and target.is_dir():  # OME-Zarr is a folder, and a folder replaces no other
                target.rename(old)
                try:
                    aside.rename(target)
                except BaseException:
                    with contextlib.suppress(OSError):
                        old.rename(target)
                    raise
                discard(old)
            else:
                aside.replace(target)
    except BaseException:
        discard(aside)
        raise


def discard(path: Path) -> None:
    """Remove a file or folder if it is there; a disk that does not let go of it is no news."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """A text file in UTF-8, whole or not at all."""
    with whole_file(path) as aside:
        aside.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def explain(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the disk answers while `path` is written into an OutputError or a ResourceError of one line.

    An answer is an `OSError`, or whatever a library makes of one, see `recon.files.error_number`.
    """
    try:
        yield
    except ReconError:
        raise
    except Exception as exc:
        number, path = error_number(exc), _shown(Path(path))
        if number in _FULL:
            raise ResourceError(f"{path} cannot be written, the disk or quota is full; free some space") from exc
        if number is None and not isinstance(exc, OSError):
            raise
        said = getattr(exc, "strerror", None) or (os.strerror(number) if number else str(exc))
        remedy = _REMEDIES.get(number or 0, _ELSEWHERE)
        raise OutputError(f"{path} cannot be written ({' '.join(said.split())}); {remedy}") from exc


def _real(path: str | os.PathLike[str]) -> Path:
    try:
        target = Path(os.path.realpath(Path(path).expanduser()))
    except (ValueError, RuntimeError) as exc:  # a zero byte, an unknown ~user
        raise OutputError(f"{str(path)!r} cannot name a folder ({exc}); choose another") from exc
    if not target.name:
        raise OutputError(f"{path} cannot hold results; choose a folder inside it")
    return target


def _host() -> str:
    return re.sub(r"\W+", "_", socket.gethostname())


def _beside(target: Path, what: str) -> Path:
    return target.with_name(f".{target.name}.{what}-{_host()}-{os.getpid()}")


def _clear(target: Path) -> None:
    """Remove working folders of dead processes; put back an old folder whose replacement never came.

    Only processes of this machine: on a cluster's shared disk the others may well be alive.
    """
    if not target.parent.is_dir():
        return
    pattern = re.compile(rf"\.{re.escape(target.name)}\.(partial|old)-{re.escape(_host())}-(\d+)")
    for path in list(target.parent.iterdir()):
        match = pattern.fullmatch(path.name)
        if match is None or path in _in_use or _alive(int(match[2])):
            continue
        if match[1] == "old" and not target.exists():
            path.rename(target)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    """Whether another process of that id runs; our own id belongs to a dead one that had it before us."""
    if pid == os.getpid():
        return False
    if os.name != "posix":
        return True  # there a signal of 0 would end it
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _shown(path: Path) -> Path:
    """A path inside a working folder of ours as it will be called."""
    for partial in _in_use:
        if path.is_relative_to(partial):
            name = re.sub(r"^\.(.*)\.partial-\w+-\d+$", r"\1", partial.name)
            return partial.with_name(name) / path.relative_to(partial)
    return path


def _flush(path: Path) -> None:
    """fsync a file or, where the system can, a folder."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_tree(path: Path) -> None:
    """fsync a file, or a folder with all that is in it."""
    if path.is_dir():
        for folder, _, files in os.walk(path):
            for name in files:
                _flush(Path(folder, name))
            _flush(Path(folder))
    else:
        _flush(path)


def _size(n: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"
