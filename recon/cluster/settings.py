"""What a task asks of a cluster: from the command's options, the job file's ``[cluster]`` or the site file."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from recon.errors import JobError

SITE = "RECON_SITE"  # names the site file; without it, it is etc/recon/site.toml of the installation, or of the system


@dataclass(frozen=True)
class Settings:
    """Resources of a task and how to get them; ``auto`` is forecast.

    Attributes:
        scheduler: ``"slurm"``, ``"pbs"`` or ``"lsf"``.
        partition: or queue.
        cpu_partition: for the alignment, which takes no GPU; without it, it asks for one like the rest, since many GPU
            partitions refuse tasks that do not.
        account: that is charged.
        time: limit of a task, minutes.
        memory: of a task, bytes.
        gpus: of a task; 0 for a reconstruction on the CPU.
        cores: of a task.
        at_once: tasks of an array that may run together; 0 for no limit.
        warning: seconds before the time limit at which a task saves its state and asks to be requeued.
        setup: lines of the shell that come before the program: modules, environments, scratch.
        options: more lines for the scheduler, as it wants them, without ``#SBATCH``.
    """

    scheduler: str = "slurm"
    partition: str = ""
    cpu_partition: str = ""
    account: str = ""
    time: int | str = "auto"
    memory: int | str = "auto"
    gpus: int = 0
    cores: int = 4
    at_once: int = 0
    warning: int = 120
    setup: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def over(self, other: Mapping[str, Any], where: str) -> Settings:
        """These, with the values of a table in their place."""
        known = {f.name for f in fields(self)}
        for key in other:
            if key not in known:
                raise JobError(f"{where}: [cluster] {key} is unknown; it has {', '.join(sorted(known))}")
        given = {k: v for k, v in other.items() if v is not None and v != ()}
        return replace(self, **{k: _checked(k, v, where) for k, v in given.items()})


def site_file() -> Path | None:
    """The file with the settings of a computing centre, if there is one."""
    named = os.environ.get(SITE)
    if named:
        return Path(named)
    for folder in (Path(sys.prefix) / "etc", Path("/etc")):
        path = folder / "recon" / "site.toml"
        if path.is_file():
            return path
    return None


def site_settings() -> Settings:
    """The settings of the site file over the program's own.

    Raises:
        JobError: it is named but cannot be read, or holds something else.
    """
    from recon.files import explain_reading

    path = site_file()
    if path is None:
        return Settings()
    with explain_reading(path, f"name a TOML file in {SITE}", JobError):
        text = path.read_text(encoding="utf-8")
    try:
        table = tomllib.loads(text).get("cluster", {})
    except tomllib.TOMLDecodeError as exc:
        raise JobError(f"{path}: not valid TOML: {exc}") from exc
    return Settings().over(table, str(path))


def _checked(key: str, value: Any, where: str) -> Any:
    if key == "time":
        return minutes(value, where)
    if key == "memory":
        return size(value, where)
    if key in ("setup", "options"):
        lines = (value,) if isinstance(value, str) else tuple(value)
        if not all(isinstance(line, str) and "\n" not in line for line in lines):
            raise JobError(f"{where}: [cluster] {key} takes lines of text in a list")
        return lines
    kind: type = {"gpus": int, "cores": int, "at_once": int, "warning": int}.get(key, str)
    least = 1 if key == "cores" else 0
    if not isinstance(value, kind) or isinstance(value, bool) or (isinstance(value, int) and value < least):
        wanted = "text in quotes" if kind is str else f"a whole number, {least} or more"
        raise JobError(f"{where}: [cluster] {key} is {value!r}; it must be {wanted}")
    if isinstance(value, str) and not re.fullmatch(r"[\w.,:@+-]*", value):
        raise JobError(f"{where}: [cluster] {key} is {value!r}; it takes letters, digits and . , : @ + -")
    if key == "scheduler" and value not in ("slurm", "pbs", "lsf"):
        raise JobError(f"{where}: [cluster] scheduler is {value!r}; use slurm, pbs or lsf")
    return value


def minutes(value: Any, where: str = "time") -> int | str:
    """``"auto"``, minutes, or Slurm's ``[DAYS-]HOURS:MINUTES[:SECONDS]``."""
    if value == "auto":
        return "auto"
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d)(?::(\d\d))?", value) if isinstance(value, str) else None
    if found is None and isinstance(value, str) and re.fullmatch(r"[1-9]\d*", value):
        return int(value)
    if found is None:
        raise JobError(f"{where}: time is {value!r}; give minutes, or hours:minutes such as '2:30', or 'auto'")
    days, hours, mins, seconds = (int(g or 0) for g in found.groups())
    return max(1, days * 1440 + hours * 60 + mins + (seconds > 0))


def size(value: Any, where: str = "memory") -> int | str:
    """``"auto"``, or bytes of ``"16 GB"``."""
    from recon.files import bytes_of

    if value == "auto":
        return "auto"
    found = bytes_of(value) if isinstance(value, str) else None
    if found is None:
        raise JobError(f"{where}: memory is {value!r}; give it as '16 GB', or 'auto'")
    return found


__all__ = ["SITE", "Settings", "minutes", "site_file", "site_settings", "size"]
