"""The values that flow through the program: `TiltSeries` up to `reconstruct`, then `Volume`s."""

from __future__ import annotations

from recon.series.alignment import Alignment
from recon.series.settings import Settings
from recon.series.tilt_series import TiltSeries
from recon.series.volume import Solution, Status, Volume

__all__ = ["Alignment", "Settings", "Solution", "Status", "TiltSeries", "Volume"]
