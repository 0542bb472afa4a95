"""What tests of stages compare with: a series that knows its truth, and distances from it."""

from __future__ import annotations

import numpy as np


def known(series, truth):
    """The series with what it was simulated with."""
    s = np.broadcast_to(truth.exposures, series.exposures.shape).copy()
    return series.evolve(alignment=truth.alignment, exposures=s, background=s * truth.background, isolated=True)


def rest(found, true, tilts_deg):
    """Displacement errors ``(tilt, 2)`` (v, u), pixels, less what a translation of the object explains.

    An object moved by (z, y, x) moves its ideal projection by ``(y, x cos t + z sin t)``, which the axis
    rotation turns in the recorded frame.
    """
    t, r = np.radians(tilts_deg), np.radians(true.rotation_deg)
    one, c, s = np.ones_like(t), np.cos(r), np.sin(r)
    v = np.stack([c * one, s * np.cos(t), s * np.sin(t)], axis=1)
    u = np.stack([-s * one, c * np.cos(t), c * np.sin(t)], axis=1)
    basis, wrong = np.concatenate([v, u]), (found.displacements - true.displacements).T.ravel()
    return (wrong - basis @ np.linalg.lstsq(basis, wrong, rcond=None)[0]).reshape(2, -1).T


def rms(a, axis=None):
    return np.sqrt(np.mean(np.square(a, dtype=float), axis=axis))


def error(values, true):
    return float(np.linalg.norm(values.astype(float) - true) / np.linalg.norm(true.astype(float)))
