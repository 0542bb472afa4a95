"""How `bootstrap.py` installs."""

from __future__ import annotations

import os
import runpy

import pytest
from commands import ROOT

bootstrap = runpy.run_path(str(ROOT / "bootstrap.py"))
uv_options = bootstrap["uv_options"]


def test_settings_of_pip_become_options_of_uv():
    settings = [
        ":env:.find-links='/wheels'\n",
        ":env:.no-input='1'\n",
        "global.extra-index-url='file:///one/simple\\nfile:///two/simple'\n",
        "global.find-links='/others'\n",
        "global.index-url='file:///everything'\n",
        "install.index-url='file:///installed'\n",
    ]
    words = uv_options(settings)
    pairs = sorted(zip(words[::2], words[1::2], strict=True))
    assert pairs == [
        ("--default-index", "file:///installed"),
        ("--find-links", "/wheels"),
        ("--index", "file:///one/simple"),
        ("--index", "file:///two/simple"),
        ("--index-strategy", "unsafe-best-match"),
    ]


@pytest.mark.parametrize(
    "setting", ["global.proxy='http://proxy:8080'", "install.no-binary=':all:'", "what is this", "install.pre='"]
)
def test_what_uv_cannot_be_told_is_left_to_pip(setting):
    assert uv_options(["global.timeout='60'\n", setting]) is None


@pytest.mark.parametrize("value", [r"C:\new\table", "it's", "\n/one\n/two\n", "both \" and '"])
def test_values_are_read_as_pip_prints_them(value):
    """As Python would: a backslash is spelled twice, an apostrophe changes the quotes."""
    words = uv_options([f"global.find-links={value!r}\n"])
    assert words[2:] == [word for item in value.split() for word in ("--find-links", item)]


def test_settings_of_other_commands_and_empty_ones_change_nothing():
    settings = [
        ":env:.config-file='/etc/pip.conf'\n",
        ":env:.index-url=''\n",
        "global.index-url='file:///everything'\n",
        "list.format='columns'\n",
        "wheel.index-url='file:///wheels'\n",
        "\n",
    ]
    assert uv_options(settings)[2:] == ["--default-index", "file:///everything"]


@pytest.mark.skipif(os.name == "nt", reason="what can be executed there, its name tells")
def test_a_program_that_cannot_be_executed_has_failed(tmp_path):
    """Then pip installs instead of it."""
    uv = tmp_path / "uv"
    uv.write_bytes(b"\x7fELF of no machine")
    uv.chmod(0o755)
    with open(tmp_path / "log", "w+", encoding="utf-8") as log:
        status, lines = bootstrap["logged"](tmp_path, [str(uv), "pip", "install"], log)
        log.seek(0)
        assert log.readlines() == lines
    assert status == 1
    assert str(uv) in lines[0]
