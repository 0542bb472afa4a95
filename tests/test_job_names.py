"""Jobs of one name in several folders: each has a name of its own."""

from __future__ import annotations

import pytest

from recon.cluster.units import names_of
from recon.errors import JobError


@pytest.mark.parametrize(
    ("jobs", "names"),
    [
        (["day1/a.toml", "day1/b.toml"], ["a", "b"]),
        (["day1/job.toml", "day2/job.toml", "other.toml"], ["day1-job", "day2-job", "other"]),
        (["x/day1/job.toml", "y/day1/job.toml", "z/day2/job.toml"], ["x-day1-job", "y-day1-job", "day2-job"]),
        (["job 1.toml"], ["job 1"]),
    ],
)
def test_names(jobs, names):
    assert names_of(jobs) == names


def test_the_same_file_twice():
    with pytest.raises(JobError, match=r"a\.toml and x/\.\./a\.toml are the same file; name it once"):
        names_of(["a.toml", "x/../a.toml"])
    name = "a.toml"
    with pytest.raises(JobError, match=r"a\.toml and a\.toml are the same file; name it once"):
        names_of(["b.toml", name, name])


def test_names_that_become_one():
    with pytest.raises(JobError, match=r"b/job\.toml and b-job\.toml have names that are too alike"):
        names_of(["a/job.toml", "b/job.toml", "b-job.toml"])
    with pytest.raises(JobError, match="too alike"):
        names_of(["a b.toml", "a_b.toml", "a?b.toml"], plain=True)
    assert names_of(["a b.toml"], plain=True) == ["a_b"]
