"""How each projection of a series was taken: `TiltGeometry`."""

from __future__ import annotations

from recon.geometry.tilt_geometry import Shape2, Shape3, TiltGeometry

__all__ = ["Shape2", "Shape3", "TiltGeometry"]
