"""Simulated tilt series with a known truth, and particles to simulate."""

from __future__ import annotations

from recon.simulate.particles import KINDS, random_particle
from recon.simulate.series import Ellipsoid, Particle, Truth, simulate, two_metal_particle

__all__ = ["KINDS", "Ellipsoid", "Particle", "Truth", "random_particle", "simulate", "two_metal_particle"]
