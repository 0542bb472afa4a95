"""What a person should know of the maps is said once: by what finds it, and by nothing that comes later."""

from __future__ import annotations

import warnings
from collections import Counter

from commands import filled, invoke, job
from commands import stacks as stacks

import recon


def spoiled(stacks):
    """A blank tilt, and a pixel that is bright in all maps."""
    maps, tilts = stacks
    maps = {name: counts.copy() for name, counts in maps.items()}
    for counts in maps.values():
        counts[3] = 0
        counts[:, 2, 13] += 900
    return maps, tilts


SAID = ("pixel (2, 13)", "tilt -40 left out")


def test_a_run_says_each_thing_once(tmp_path, monkeypatch, stacks):
    monkeypatch.chdir(tmp_path)
    filled(tmp_path, spoiled(stacks))
    done = invoke("run", job(extra='[reconstruct]\nmethod = "sirt"\nmax_iterations = 3\n'))
    assert done.exit_code == 0, done.output
    said = [line.partition("warning: ")[2].removeprefix("alignment: ") for line in done.stderr.splitlines()]
    said = [line for line in said if line]
    assert not [line for line, times in Counter(said).items() if times > 1]
    for start in SAID:
        assert sum(line.startswith(start) for line in said) == 1, start
    assert not any("were left out" in line for line in said)


def test_python_is_told_by_what_finds_it(stacks):
    maps, tilts = spoiled(stacks)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        series = recon.read(maps, tilts, 5.0)
        before = len(caught)
        series = recon.normalise(series)
        found = [str(w.message) for w in caught[before:] if issubclass(w.category, recon.ReconWarning)]
        assert [any(line.startswith(s) for line in found) for s in SAID] == [True, True]
        assert all(w.filename == __file__ for w in caught[before:])
        before = len(caught)
        recon.align(series)
        later = [str(w.message) for w in caught[before:] if issubclass(w.category, recon.ReconWarning)]
    assert [sum(line.startswith(s) for line in later) for s in SAID] == [0, 0]
