"""Python as a person types it: names that docstrings mention, options as a dictionary, warnings, progress."""

from __future__ import annotations

import inspect
import logging
import pydoc
import re
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import recon
from recon.eds.windows import Options
from recon.errors import JobError, ReconWarning, teller
from recon.series.volume import Record
from recon.solvers.progress import LiveLine, watching

# ---------------------------------------------------------------- names

BUILT_IN = {"KeyError", "TypeError", "ValueError", "NotImplementedError"}


@pytest.mark.parametrize("name", recon.__all__)
def test_errors_that_a_docstring_names_are_names_of_recon(name):
    value = getattr(recon, name)
    texts = [inspect.getdoc(value) or ""] + [
        inspect.getdoc(member) or "" for _, member in inspect.getmembers(value, callable) if inspect.isclass(value)
    ]
    for text in texts:
        for error in set(re.findall(r"\b\w+Error\b", text)) - BUILT_IN:
            assert error in recon.__all__, f"{name} names {error}"
            assert issubclass(getattr(recon, error), BaseException)


@pytest.mark.parametrize("name", recon.__all__)
def test_dotted_names_in_docstrings_lead_somewhere(name):
    for dotted in re.findall(r"`(recon(?:\.\w+)+)`", inspect.getdoc(getattr(recon, name)) or ""):
        assert pydoc.locate(dotted) is not None, dotted


def test_errors_are_caught_by_the_types_people_know():
    assert issubclass(recon.InputError, ValueError)
    assert issubclass(recon.OutputError, OSError)
    assert issubclass(recon.ResourceError, MemoryError)
    assert issubclass(recon.ReconWarning, UserWarning)
    with pytest.raises(recon.ReconError):
        recon.read({"Co": "no such file.tif"}, [0, 10, 20], 1.0)


def test_importing_recon_is_silent_and_light():
    code = "import recon, sys; recon.InputError; print([m for m in ('numpy', 'numba', 'astra') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


# ---------------------------------------------------------------- options


def test_options_as_a_dictionary():
    assert Options.of({"bin": 4}) == Options(bin=4)
    assert Options.of({"elements": ["Cu"]}).elements == ("Cu",)
    assert Options.of(None) == Options() == Options.of({})
    assert Options.of(Options(window=2)).window == 2


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"bins": 4}, "did you mean 'bin'"),
        ({"colour": 1}, "use window"),
        ([4], "a dictionary"),
        ("bin", "a dictionary"),
    ],
)
def test_options_that_are_none(given, says):
    with pytest.raises(JobError, match=says):
        Options.of(given)


@pytest.mark.parametrize("given", [{"bin": 0}, {"bin": 2.5}, {"bin": True}, {"detectors": "all"}, {"elements": "Xx"}])
def test_options_out_of_range_say_so_before_files_are_read(given):
    with pytest.raises(JobError):
        recon.line_maps("no such folder", ["Fe_Ka"], options=given)


# ---------------------------------------------------------------- warnings and the log


def test_lines_go_to_the_logger_and_warnings_to_the_caller(caplog):
    tell = teller(None)
    with caplog.at_level(logging.INFO, "recon"):
        tell("align: done")
        with pytest.warns(ReconWarning, match="^the tilt is odd$") as caught:
            tell("warning: the tilt is odd")
    assert caplog.messages == ["align: done"]
    assert caught[0].filename == __file__


def test_a_log_that_is_given_gets_all():
    lines = []
    tell = teller(lines.append)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tell("warning: the tilt is odd")
    assert lines == ["warning: the tilt is odd"]


# ---------------------------------------------------------------- progress


def test_progress_as_people_ask_for_it():
    seen = []
    with watching(lambda element, record: seen.append(element)) as step:
        step("Co", None)
    assert seen == ["Co"]
    for nothing in (None, False):
        with watching(nothing) as step:
            assert step is None


def test_a_live_line_tells_element_iteration_and_gap():
    line = LiveLine(1e-2)
    with line:
        for k, gap in enumerate([1.0, 0.5, 0.2, float("nan")], 1):
            line.step("Co", Record(10 * k, 5.0, gap, float(k)))
            task = line.bar.tasks[0]
            assert task.description == "Co"
            assert f"iteration {10 * k}" in task.fields["state"]
            assert ("gap" in task.fields["state"]) == np.isfinite(gap)
        with ThreadPoolExecutor(1) as other:
            other.submit(line.step, "Zn", Record(10, 5.0, 0.5, 1.0)).result()
            assert [t.description for t in line.bar.tasks] == ["Co", "Zn"]  # at work side by side
        line.step("Co", Record(50, 5.0, 0.1, 5.0))
        assert len(line.history["Co"]) == 5
        line.step("Co", Record(10, 5.0, 0.5, 1.0))  # half of its counts, say
        assert len(line.history["Co"]) == 1


def test_lines_of_finished_elements_go():
    line = LiveLine(1e-2)
    with ThreadPoolExecutor(1) as pool, line:

        def shown(element, gap, here=False):
            record = Record(10, 5.0, gap, 1.0)
            if here:
                line.step(element, record)
            else:
                pool.submit(line.step, element, record).result()
            return [t.description for t in line.bar.tasks]

        assert shown("a", 0.5, here=True) == ["a"]
        assert shown("b", 0.5) == ["a", "b"]
        assert shown("c", 0.5, here=True) == ["b", "c"]  # of the thread that had a
        assert shown("c", 1e-3, here=True) == ["b", "c"]
        assert shown("d", 0.5) == ["d"]  # c has converged
