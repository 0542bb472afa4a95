"""What is shipped, and what importing it costs."""

from __future__ import annotations

import email
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest

import recon

if TYPE_CHECKING:
    from email.message import Message

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "bootstrap.py")
HEAVY = {
    "astra", "click", "cupy", "h5py", "matplotlib", "mrcfile", "numba", "numpy", "psutil", "pydantic", "rich", "rsciio",
    "scipy", "skimage", "sparse", "tifffile", "xraydb", "zarr",
}  # fmt: skip

# ---------------------------------------------------------------- the wheel


def setuptools_is_new_enough() -> bool:
    try:
        return int(importlib.metadata.version("setuptools").partition(".")[0]) >= 77
    except importlib.metadata.PackageNotFoundError:
        return False


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A wheel built from a copy of the tree, an sdist, and the wheel built from that sdist.

    The copy keeps the build out of the tree, whose leftovers would end up in the next wheel.
    """
    tree, out = tmp_path_factory.mktemp("a tree"), tmp_path_factory.mktemp("dist")
    for name in SHIPPED:
        shutil.copy2(ROOT / name, tree / name)
    for name in ("recon", "kernels", "tests"):
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    isolation = ["--no-isolation"] if setuptools_is_new_enough() else []
    for flag, folder in (["--wheel"], "direct"), ([], "through"):
        command = [sys.executable, "-m", "build", *flag, *isolation, "--outdir", str(out / folder), str(tree)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    found = {"wheel": "direct/*.whl", "sdist": "through/*.tar.gz", "wheel of sdist": "through/*.whl"}
    return {what: next(out.glob(pattern)) for what, pattern in found.items()}


def expected_modules() -> set[str]:
    """What the tree says a wheel holds, the device code under its installed name."""
    own = {p.relative_to(ROOT) for p in (ROOT / "recon").rglob("*.py")} | {
        Path("recon/py.typed"),
        Path("recon/report/napari.yaml"),
    }
    own |= {p.relative_to(ROOT) for p in (ROOT / "recon" / "report" / "assets").iterdir()}
    own = {p.as_posix() for p in own if p.parts[1] != "kernels"}
    device = {p.name for pattern in ("*.py", "*.cu", "*.cuh") for p in (ROOT / "kernels").glob(pattern)}
    return own | {f"recon/kernels/{name}" for name in device}


@pytest.mark.parametrize("what", ["wheel", "wheel of sdist"])
def test_a_wheel_holds_the_tree_and_nothing_else(built: dict[str, Path], what: str) -> None:
    with zipfile.ZipFile(built[what]) as wheel:
        names = {name for name in wheel.namelist() if not name.endswith("/")}
        info = f"chemtomo-{recon.__version__}.dist-info/"
        assert wheel.read(info + "licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert {name for name in names if not name.startswith(info)} == expected_modules()
    about = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}
    assert {name.removeprefix(info) for name in names if name.startswith(info)} == about
    assert {PurePosixPath(name).parts[0] for name in names} == {"recon", info.rstrip("/")}


def test_the_sdist_holds_what_a_packager_needs(built: dict[str, Path]) -> None:
    with tarfile.open(built["sdist"]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    device = {name.replace("recon/kernels/", "kernels/") for name in expected_modules()}
    tests = {p.relative_to(ROOT).as_posix() for p in (ROOT / "tests").rglob("*.py")}
    assert device | tests | set(SHIPPED) <= names


def test_metadata(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built["wheel"]) as wheel:
        info = f"chemtomo-{recon.__version__}.dist-info/"
        metadata: Message = email.message_from_bytes(wheel.read(info + "METADATA"))
        scripts = wheel.read(info + "entry_points.txt").decode()
    assert metadata["Name"] == "chemtomo"
    assert metadata["Version"] == recon.__version__
    assert metadata["License-Expression"] == "GPL-3.0-or-later"
    assert set(metadata["Requires-Python"].split(",")) == {">=3.11", "<3.14"}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert set(metadata.get_all("Provides-Extra", [])) == set(extras)
    assert "recon = recon.cli:main" in scripts


def test_the_unpacked_wheel_runs_without_the_tree(built: dict[str, Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(built["wheel"]) as wheel:
        wheel.extractall(tmp_path)
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import importlib.util, recon.kernels; "
        "print(json.dumps([recon.kernels.__file__, importlib.util.find_spec('kernels') is None]))"
    )
    where, no_top_level = json.loads(fresh(code, str(tmp_path), cwd=tmp_path).stdout)
    assert Path(where) == tmp_path / "recon" / "kernels" / "__init__.py"
    assert no_top_level, "a top-level package `kernels` is importable beside recon.kernels"


def test_the_changelog_gives_a_reason_for_each_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[\s\[<>=;!~]", entry)[0] for entries in lists for entry in entries} - {"chemtomo"}
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert not {name for name in names if f"`{name}`" not in text}


# ---------------------------------------------------------------- importing it


def fresh(code: str, *args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter that sees what is installed, not the folder it runs in."""
    command = [sys.executable, "-I", "-c", code, *args]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=cwd)


@pytest.fixture
def installed(tmp_path: Path) -> None:
    if fresh("import importlib.util; print(importlib.util.find_spec('recon'))", cwd=tmp_path).stdout.strip() == "None":
        pytest.skip("recon is not installed in this Python")


@pytest.mark.usefixtures("installed")
def test_import_loads_nothing_heavy_and_prints_nothing(tmp_path: Path) -> None:
    code = (
        "import json, sys; before = set(sys.modules); import recon; "
        "print(json.dumps(sorted({m.partition('.')[0] for m in set(sys.modules) - before})))"
    )
    done = fresh(code, cwd=tmp_path)
    assert done.stderr == ""
    assert not HEAVY & set(json.loads(done.stdout))  # anything that was printed would not parse


@pytest.mark.usefixtures("installed")
def test_every_public_name_resolves(tmp_path: Path) -> None:
    code = (
        "import json, recon; missing = []\n"
        "for name in recon.__all__:\n"
        "    try: getattr(recon, name)\n"
        "    except Exception as error: missing.append(f'{name}: {error!r}')\n"
        "print(json.dumps(missing))"
    )
    assert json.loads(fresh(code, cwd=tmp_path).stdout) == []


@pytest.mark.usefixtures("installed")
def test_the_device_code_is_installed_as_recon_kernels_only(tmp_path: Path) -> None:
    code = "import importlib.util, recon.kernels; print(importlib.util.find_spec('kernels') is None)"
    assert fresh(code, cwd=tmp_path).stdout.strip() == "True"


# ---------------------------------------------------------------- what must not be in the tree


@pytest.mark.parametrize(
    "pattern",
    [
        r"(^|[^[:alnum:]_.-])/wor[k]/",
        r"(^|[^[:alnum:]_.-])/roo[t]/",
        r"/tm[p]/[[:alnum:]_.-]+/",
        r"pypi\.or[g]|pythonhosted\.or[g]|/opt/pyp[i]|registry\.npmjs\.or[g]|conda\.anaconda\.or[g]",
    ],
    ids=["work", "root", "tmp", "registry"],
)
def test_no_tracked_file_names_a_machine(pattern: str) -> None:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    command = [git, "-c", f"safe.directory={ROOT}", "grep", "-nIE", pattern]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert done.stdout == ""
