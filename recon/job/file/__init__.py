"""Job files: TOML in, a checked `Job` out, or one line that says what is wrong and where."""

from __future__ import annotations

from recon.job.file.load import PRESETS, load_job
from recon.job.file.sections import Job

__all__ = ["PRESETS", "Job", "load_job"]
