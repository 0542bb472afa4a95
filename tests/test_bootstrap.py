"""How `bootstrap.py` installs."""

from __future__ import annotations

import runpy

import pytest
from commands import ROOT

uv_options = runpy.run_path(str(ROOT / "bootstrap.py"))["uv_options"]


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


@pytest.mark.parametrize("setting", ["global.proxy='http://proxy:8080'", "install.no-binary=':all:'", "what is this"])
def test_what_uv_cannot_be_told_is_left_to_pip(setting):
    assert uv_options(["global.timeout='60'\n", setting]) is None
