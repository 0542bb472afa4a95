"""Set everything up in a virtual environment, then run the demo or the tests, or build the documentation.

    python3 bootstrap.py demo [--venv DIR] [options of recon demo]
    python3 bootstrap.py test [--venv DIR] [options of pytest]
    python3 bootstrap.py docs [--venv DIR] [options of sphinx-build]

Python 3.11, 3.12 or 3.13 and a connection to a package index are all it needs. The environment is
`.venv` beside this file, or DIR; it is made once and brought up to date when pyproject.toml changes.
Tests run side by side on all cores; `-n 0` runs them in one process, `--cov=recon` adds a coverage figure.
"""

import ast
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TextIO

if not (3, 11) <= sys.version_info[:2] <= (3, 13):  # before anything that an older Python cannot run
    sys.exit(
        f"bootstrap: this is Python {sys.version_info[0]}.{sys.version_info[1]}, and 3.11, 3.12 or 3.13 is needed; "
        "run this file with one of those, for instance: python3.12 bootstrap.py demo"
    )

ROOT = Path(__file__).resolve().parent
STAMP = ".bootstrap.json"  # what the environment holds, and whether its installation was finished
LOG = "bootstrap.log"
# settings of pip as options of uv, and those that change nothing in what it installs
UV_OPTIONS = {
    "constraint": "--constraint",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "index-url": "--default-index",
    "trusted-host": "--allow-insecure-host",
}
NO_MATTER = (
    "break-system-packages",
    "cache-dir",
    "cert",
    "compile",
    "config-file",
    "default-timeout",
    "disable-pip-version-check",
    "no-cache-dir",
    "no-color",
    "no-compile",
    "no-input",
    "no-warn-script-location",
    "progress-bar",
    "quiet",
    "require-virtualenv",
    "retries",
    "root-user-action",
    "timeout",
    "user",
    "verbose",
)
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# a command's packages (an extra of pyproject.toml) and its steps, each `python -m`; the last step takes the options
COMMANDS = {
    "demo": ("", (("recon", "demo"),)),
    "test": (
        "test",
        (
            ("ruff", "format", "--check", "."),
            ("ruff", "check", "."),
            ("mypy",),
            ("recon.kernels.warm", "all"),  # or all of pytest's processes would compile the same kernels at once
            # some tests wait, for a scheduler or a browser; neighbours share fixtures, so they stay in one process
            ("pytest", "-n", str(CORES + 1), "--dist", "worksteal"),
        ),
    ),
    "docs": ("docs", (("sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", "docs/_build/html"),)),
}


def fail(message: str, status: int = 2) -> None:
    print(f"bootstrap: {message}", file=sys.stderr)
    sys.exit(status)


def main(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help"):
        print((__doc__ or "").strip())
        return 0
    command, rest = args[0], args[1:]
    if command not in COMMANDS:
        fail(f"there is no command {command!r}; use {' or '.join(COMMANDS)}")
    extra, steps = COMMANDS[command]
    env, rest = take_venv(rest)
    prepare(env, extra)
    for step in steps:
        full = [*step, *rest] if step is steps[-1] else list(step)
        if len(steps) > 1:
            print("$ python -m " + " ".join(full), flush=True)
        status = run(env, [str(script(env, "python")), "-P", "-m", *full], cwd=ROOT if extra else None)
        if status:
            return status
    return 0


def take_venv(args: list[str]) -> tuple[Path, list[str]]:
    """The environment's folder and the arguments that are left."""
    env, rest, items = ROOT / ".venv", [], iter(args)
    for item in items:
        if item == "--venv" or item.startswith("--venv="):
            value = item[len("--venv=") :] if "=" in item else next(items, "")
            if not value:
                fail("--venv needs a folder")
            env = Path(value).absolute()
        else:
            rest.append(item)
    return env, rest


def script(env: Path, name: str) -> Path:
    return env / "Scripts" / f"{name}.exe" if os.name == "nt" else env / "bin" / name


def environment(env: Path) -> dict[str, str]:
    """The caller's variables, with `env` activated and without those that lead Python or pip elsewhere."""
    unwanted = ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__", "PIP_TARGET", "PIP_PREFIX")
    kept = {key: value for key, value in os.environ.items() if key not in unwanted}
    path = os.pathsep.join([str(script(env, "python").parent), kept.get("PATH", os.defpath)])
    pip = {"PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return {**kept, **pip, "PATH": path, "VIRTUAL_ENV": str(env)}


def run(env: Path, command: list[str], cwd: Path | None = None) -> int:
    """Exit status of a command in `env`. Ctrl-C is the command's to handle: it is waited for, not killed."""
    process = subprocess.Popen(command, cwd=cwd, env=environment(env))
    while True:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            continue
        return 128 - status if status < 0 else status


# ---------------------------------------------------------------- the environment


def prepare(env: Path, extra: str) -> None:
    """Make `env` hold this checkout (editable) with the packages of `extra`; nothing to do if it does."""
    stamp, content = read_stamp(env), fingerprint()
    current = stamp.get("content") == content
    if current and extra in stamp["extras"] and works(env, "import recon.kernels"):
        return
    made_here, usable = is_ours(env, stamp), works(env, "import pip")
    if made_here and not (usable and stamp.get("base") == base()):
        create(env)  # new, interrupted, moved, or made with another Python
    elif not usable:
        fail(f"the virtual environment {env} has no working Python with pip; give another folder with --venv")
    write_stamp(env, made_here=made_here)
    install(env, extra)
    extras = sorted({extra, "", *(stamp["extras"] if current else [])})
    write_stamp(env, made_here=made_here, base=base(), content=content, extras=extras)


def is_ours(env: Path, stamp: dict[str, Any]) -> bool:
    """Whether `env` was made by this file, or is to be: only then may it be emptied."""
    if stamp:
        return bool(stamp["made_here"])
    if not env.exists() or (env.is_dir() and not any(env.iterdir())):
        return True
    if not (env / "pyvenv.cfg").is_file():
        fail(f"{env} exists and is no virtual environment; give another folder with --venv")
    return False


def base() -> str:
    """Which Python an environment was made with, and for which folder."""
    return f"{sys.implementation.cache_tag} {ROOT}"


def fingerprint() -> str:
    """Changes whenever the packages that are needed may have changed."""
    parts = [base().encode(), (ROOT / "pyproject.toml").read_bytes(), (ROOT / "recon" / "_version.py").read_bytes()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def read_stamp(env: Path) -> dict[str, Any]:
    try:
        stamp = json.loads((env / STAMP).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(env: Path, **values: object) -> None:
    aside = env / (STAMP + ".new")
    aside.write_text(json.dumps(values), "utf-8")
    aside.replace(env / STAMP)


def works(env: Path, statement: str) -> bool:
    command = [str(script(env, "python")), "-I", "-c", statement]
    try:
        return subprocess.run(command, env=environment(env), capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def create(env: Path) -> None:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        fail(
            f"this Python {version} cannot make virtual environments: its module venv or ensurepip is missing; "
            f"on Debian or Ubuntu: sudo apt install python{version}-venv"
        )
    import venv

    print(f"making a virtual environment in {env}", flush=True)
    env.mkdir(parents=True, exist_ok=True)
    write_stamp(env, made_here=True)  # so that a run that is interrupted from here on is recognised
    for item in env.iterdir():
        if item.name == STAMP:
            continue
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item)
        else:
            item.unlink()
    (env / ".gitignore").write_text("*\n", "utf-8")
    try:
        venv.EnvBuilder(symlinks=os.name != "nt", with_pip=True).create(env)
    except subprocess.CalledProcessError as error:
        fail(
            f"no virtual environment could be made in {env}: {last_line(error.output)}; "
            f"on Debian or Ubuntu: sudo apt install python{version}-venv"
        )


def install(env: Path, extra: str) -> None:
    """Install this checkout; the output goes to a log, one line of it at a time to a terminal.

    uv takes seconds where pip takes minutes; where it is not to be had, or fails, pip does it.
    """
    import tomllib

    with open(ROOT / "pyproject.toml", "rb") as file:
        build = tomllib.load(file)["build-system"]["requires"]
    # Python compiles what is imported; to compile all modules of all packages beforehand takes as long as the rest
    what = ["--no-compile", *build, "--editable", f".[{extra}]" if extra else "."]
    print("installing packages; the first time this downloads them and takes minutes", flush=True)
    pip, start = [str(script(env, "python")), "-m", "pip"], time.monotonic()
    with open(env / LOG, "w", encoding="utf-8") as log:
        fast = with_uv(env, pip, log)
        status, lines = logged(env, [*fast, *what], log) if fast else (1, [])
        if status:
            status, lines = logged(env, [*pip, "install", "--retries", "2", *what], log)
    show("")
    if status:
        if os.environ.get("CI"):
            sys.stderr.writelines(lines[-20:])
        fail(f"{explain(''.join(lines))}. The log is {env / LOG}")
    print(f"installed in {time.monotonic() - start:.0f} s", flush=True)


def logged(env: Path, command: list[str], log: TextIO) -> tuple[int, list[str]]:
    """Exit status and output of a command, which the log and a terminal get, too; status 1 if it cannot be run."""
    piped: dict[str, Any] = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "encoding": "utf-8",
        "errors": "replace",
    }
    lines, utf8 = [], {**environment(env), "PYTHONUTF8": "1"}
    try:
        process = subprocess.Popen(command, cwd=ROOT, env=utf8, **piped)
    except OSError as error:
        log.write(f"{error}\n")
        return 1, [f"{error}\n"]
    with process:
        for line in process.stdout or ():
            log.write(line)
            lines.append(line)
            show(line)
    return process.returncode, lines


def with_uv(env: Path, pip: list[str], log: TextIO) -> list[str]:
    """The beginning of a command that installs by uv as pip is configured to, or nothing if that cannot be."""
    status, lines = logged(env, [*pip, "config", "list"], log)
    options = None if status else uv_options(lines)
    if options is None:
        return []
    uv = shutil.which("uv", path=environment(env)["PATH"])
    if uv is None:
        logged(env, [*pip, "install", "--no-compile", "--retries", "0", "uv"], log)
        uv = shutil.which("uv", path=str(script(env, "uv").parent))
    return [uv, "pip", "install", "--python", str(script(env, "python")), *options] if uv else []


def uv_options(settings: list[str]) -> list[str] | None:
    """What `pip config list` prints, as options of uv; None if uv has no such option."""
    items = [line.strip().partition("=") for line in settings if line.strip()]
    if any("." not in name for name, _, _ in items):
        return None
    found: dict[str, str] = {}
    for section in ("global", "install", ":env:"):  # each wins over those before it; others are of other commands
        for name, _, text in items:
            of, _, key = name.rpartition(".")
            if of != section:
                continue
            try:
                value = ast.literal_eval(text)  # pip prints it as Python would
            except (SyntaxError, ValueError):
                return None
            if value:  # pip takes no notice of empty ones
                found[key] = str(value)
    options = ["--index-strategy", "unsafe-best-match"]  # the newest release on any index, as for pip
    for name, value in found.items():
        if name in UV_OPTIONS:
            options += [word for item in value.split() for word in (UV_OPTIONS[name], item)]
        elif name not in NO_MATTER:
            return None
    return options


def show(line: str) -> None:
    """Write over the last line of a terminal; nothing where there is none."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 1
        print("\r" + line.strip()[:width].ljust(width) + "\r", end="", flush=True)


def explain(output: str) -> str:
    """One line on why pip failed and what is needed."""
    errors = [line.partition("ERROR:")[2].strip() for line in output.splitlines() if "ERROR:" in line]
    reason = errors[-1] if errors else last_line(output)
    if "connection broken" in output or "(from versions: none)" in output:
        return (
            f"pip reaches no package index ({reason}); connect to the internet or let PIP_INDEX_URL name a mirror, "
            "then run the same command again"
        )
    return f"pip could not install the packages: {reason}"


def last_line(output: str | bytes | None) -> str:
    text = output.decode(errors="replace") if isinstance(output, bytes) else output or ""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no reason was given")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        fail("interrupted; run the same command again to go on", 130)
    except OSError as error:
        fail(str(error))
