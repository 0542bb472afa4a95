"""Text and JSON from files, and in one line why a file cannot be read."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import glob
import json
import logging
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from recon.errors import InputError, ReconError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, TypeAdapter
    from pydantic_core import CoreSchema

# names that a folder of results uses for something else than an element's volume
OWN_FILES = (
    "mask", "job", "alignment", "report", "regions", "volumes", "aligned", "alignment-frames", "alignment-shifts",
    "tilts", "spectra", "maps",
)  # fmt: skip
OWN_ENDS = ("-uncertainty", "-error", "-aligned", "-background")

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Kind = TypeVar("Kind")


@contextlib.contextmanager
def explain_reading(path: str | os.PathLike[str], remedy: str, error: type[ReconError] = InputError) -> Iterator[None]:
    """Turn what goes wrong while `path` is opened and its text decoded into an `error` of one line.

    Args:
        path: as the user knows it.
        remedy: what to do if it is no file or no text: "name a file with one tilt angle a line".
        error: the type to raise.
    """
    try:
        refuse_pipes(Path(path), remedy, error)
        yield
    except ReconError:
        raise
    except FileNotFoundError as exc:
        raise error(f"{path} does not exist; check the name and the folder") from exc
    except IsADirectoryError as exc:
        raise error(f"{path} is a folder; {remedy}") from exc
    except PermissionError as exc:
        raise error(f"{path} may not be read; ask for permission to read it") from exc
    except UnicodeDecodeError as exc:
        raise error(f"{path} is not text in UTF-8; {remedy}") from exc
    except (OSError, ValueError) as exc:  # a ValueError tells of a zero byte in the name
        raise error(f"{path} cannot be opened ({getattr(exc, 'strerror', None) or exc})") from exc


def refuse_pipes(path: Path, remedy: str, error: type[ReconError] = InputError) -> None:
    """Raise `error` if a path is a pipe, a socket or a device: opening one may wait for ever, or never end."""
    mode = path.expanduser().stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        what = "a device" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else "a pipe or socket"
        raise error(f"{path} is {what}, not a regular file; {remedy}")


def reason(error: BaseException) -> str:
    """What a library said of a bad file, in one line; the error's type if it said nothing."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def error_number(error: BaseException) -> int | None:
    """The system's number behind what a library raised, if there is one, such as ``errno.ENOSPC``.

    HDF5 tells it in its text only (``errno = 28``), NumPy's ``tofile`` tells of a full disk in words, and many a
    library raises an error of its own from the system's.
    """
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        number = getattr(link, "errno", None) if isinstance(link, OSError) else None
        told = re.search(r"errno = (\d+)", str(link))
        if isinstance(number, int):
            return number
        if told:
            return int(told[1])
        if isinstance(link, OSError) and "requested and" in str(link):
            return errno.ENOSPC
        link = link.__cause__ or link.__context__
    return None


def unreadable(path: str | os.PathLike[str], error: BaseException, what: str) -> InputError:
    """What to say of a file that a library could not read, `what` being its own guess: locked, or not as it should be.

    HDF5 locks a file that another program holds open for writing; Windows does so with any file.
    """
    number, said = error_number(error), str(error).casefold()
    if "unable to lock file" in said or number in (errno.EAGAIN, errno.EWOULDBLOCK) or _sharing(error):
        return InputError(f"{path} is open in another program, which keeps it locked; close it there, or copy the file")
    if number in (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT):
        return InputError(f"{path} cannot be read, its disk fails ({os.strerror(number)}); copy it to another disk")
    if isinstance(error, ImportError):
        return InputError(f"{path} needs the package {error.name or reason(error)}, which is not installed; install it")
    return InputError(f"{path} {what}")


def _sharing(error: BaseException) -> bool:
    return getattr(error, "winerror", None) in (32, 33)  # sharing and lock violations


@contextlib.contextmanager
def quiet(name: str) -> Iterator[list[str]]:
    """Collect what a library logs instead of letting it print."""
    logger, messages = logging.getLogger(name), list[str]()
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    propagate, logger.propagate = logger.propagate, False
    own, logger.handlers = logger.handlers, [handler]  # rosettasciio's own handler prints
    try:
        yield messages
    finally:
        logger.handlers = own
        logger.propagate = propagate


def read_text(path: Path, remedy: str) -> str:
    """The text of a file in UTF-8, with or without a byte order mark; every line ends in ``\\n``.

    Raises:
        InputError: see `explain_reading`.
    """
    with explain_reading(path, remedy):
        return path.read_text(encoding="utf-8-sig")


def read_json(path: Path, remedy: str) -> Any:
    """The value of a JSON file.

    Raises:
        InputError: it is not JSON (which knows neither NaN nor infinity), or see `explain_reading`.
    """
    text = read_text(path, remedy)
    try:
        return json.loads(text, parse_constant=_finite, parse_float=_finite, parse_int=_whole)
    except (ValueError, RecursionError) as exc:
        raise InputError(f"{path} is not JSON ({exc}); {remedy}".replace("\n", " ")) from exc


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:20]} is not finite")
    return value


def _whole(number: str) -> int:
    _finite(number)
    return int(number)


def bytes_of(text: str) -> int | None:
    """Bytes of ``"16 GB"``; G, GB and GiB are 2**30, as schedulers take them. None where it is no size."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKMGT])?(?:i?B)?\s*", text)
    if found is None or float(found[1]) <= 0:
        return None
    return int(float(found[1]) * 1024 ** " KMGT".index((found[2] or " ").upper()))


def reserved(name: str, *, whole_run: bool = True) -> str | None:
    """Why a file of results that is called like an element would be mistaken for another one; None if it would not.

    With `whole_run`, what a run writes beside an element's volume counts, such as ``Co-uncertainty``.
    """
    folded = name.casefold()
    if folded in OWN_FILES:
        return f"a run writes a file called {folded}"
    if re.fullmatch("con|prn|aux|nul|(com|lpt)[1-9]", folded):
        return "Windows keeps that name for a device"
    if whole_run:
        for part in OWN_ENDS:
            if folded.endswith(part):
                return f"a run writes ELEMENT{part} itself"
        if folded.startswith("truth-"):
            return "recon demo writes truth-ELEMENT itself"
    return None


# ---------------------------------------------------------------- records


class _NullIsNan:
    """Marks a float of a record that JSON has as null where it is not a number."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(lambda v: math.nan if v is None else v, handler(source))


Number = Annotated[float, _NullIsNan]


def to_json(value: object) -> Json:
    """A record (a dataclass, or whatever it holds) as JSON values: null for what is not finite, lists for tuples.

    Examples:
        >>> to_json({"gap": float("nan"), "shape": (2, 3)})
        {'gap': None, 'shape': [2, 3]}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # NumPy's numbers and arrays
        return to_json(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Iterable):
        return [to_json(item) for item in value]
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


def json_text(value: object) -> str:
    """A record as the text of a JSON file."""
    return json.dumps(to_json(value), indent=1, allow_nan=False) + "\n"


def from_json(kind: type[Kind], value: object, where: str | os.PathLike[str], remedy: str) -> Kind:
    """The record that `to_json` made these JSON values from, perhaps edited since; every value is checked.

    Raises:
        InputError: a value lacks or is of another type; the message names `where`, the key and the remedy.
    """
    from pydantic import ValidationError

    try:
        return _checker(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "the whole"
        what = "is missing" if first["type"] == "missing" else f"does not fit ({first['msg']})"
        raise InputError(f"{where}: {key} {what}; {remedy}") from exc


_checkers: dict[object, Any] = {}


def _checker(kind: type[Kind]) -> TypeAdapter[Kind]:
    """Made once: to build one takes longer than to read a record with it."""
    from pydantic import TypeAdapter

    if kind not in _checkers:
        _checkers[kind] = TypeAdapter(kind)
    found: TypeAdapter[Kind] = _checkers[kind]
    return found


def read_record(kind: type[Kind], path: Path, remedy: str) -> Kind:
    """The record in a JSON file.

    Raises:
        InputError: see `read_json` and `from_json`.
    """
    return from_json(kind, read_json(path, remedy), path, remedy)


def rounded(values: Iterable[float], digits: int) -> tuple[float | None, ...]:
    """Numbers for a record: rounded, and None for what is not finite."""
    return tuple(round(float(v), digits) if math.isfinite(v) else None for v in values)


# ---------------------------------------------------------------- patterns


def matching(pattern: str | os.PathLike[str], base: str | os.PathLike[str] = ".") -> list[Path]:
    """Files that a pattern (``Fe_*.tif``) names, in natural order: -10 before -5, 9 before 10.

    What exists by its name is taken as it is written, so that a folder called ``[2024] series`` is no pattern.
    """
    full = Path(base).expanduser() / Path(pattern).expanduser()
    if full.exists():
        return [full]
    folder, rest = Path(full.anchor), list(full.parts[1:] if full.anchor else full.parts)
    while rest and (folder / rest[0]).exists():
        folder /= rest.pop(0)
    found = [folder / name for name in glob.glob(str(Path(*rest)), root_dir=folder)] if rest else []
    return sorted(found, key=natural)


def natural(path: Path) -> list[tuple[float, str]]:
    """Sort key in which -10 comes before -5 and 9 before 10."""
    return [
        (float(part), "") if re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", part) else (math.inf, part.casefold())
        for part in re.split(r"((?:(?<![A-Za-z0-9])[+-])?[0-9]+(?:\.[0-9]+)?)", path.stem)
        if part
    ]
