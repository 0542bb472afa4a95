"""What is solved for together: channels that share a grid, and steps that suit all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from recon.errors import JobError
from recon.kernels import MOST_CHANNELS
from recon.operators import Operator
from recon.solvers.data_terms import DataTerm
from recon.solvers.weights import Weights

COUPLINGS = ("frobenius", "nuclear")


@dataclass(frozen=True, eq=False)
class Channel:
    """One of the volumes that are solved for together, on a grid that all of them share.

    Attributes:
        operator: A, ``(z, x, y) -> (tilt, u, y)``; its tilts and frames are the channel's own.
        data: D, with s, b and the counts.
        a1: strength, counts^-1 voxel: gradients are compared after multiplication by it.
    """

    operator: Operator
    data: DataTerm
    a1: float


def check_channels(channels: Sequence[Channel], coupling: str) -> None:
    """JobError, with the numbers, for channels that cannot be coupled."""
    if coupling not in COUPLINGS:
        raise JobError(f"coupling {coupling!r} is unknown; use one of {', '.join(COUPLINGS)}")
    if not 1 <= len(channels) <= MOST_CHANNELS:
        raise JobError(f"{len(channels)} channels cannot be coupled; take 1 to {MOST_CHANNELS} of them")
    shape = channels[0].operator.domain_shape
    for k, channel in enumerate(channels):
        if channel.operator.domain_shape != shape:
            raise JobError(
                f"channel {k} has a volume of {channel.operator.domain_shape} voxels (z, x, y), channel 0 of {shape}; "
                "coupled channels share one grid"
            )
        if not (np.isfinite(channel.a1) and channel.a1 > 0):
            raise JobError(f"the strength of channel {k} is {channel.a1:g}; it must be positive")


def in_step(weights: Sequence[Weights]) -> list[Weights]:
    """The same with primal weights by which the duals of all gradients take the same step: the geometric mean."""
    sigma = float(np.exp(np.mean([np.log(w.sigma_p) for w in weights])))
    return [replace(w, omega=sigma * w.n_d**2 / w.eta) for w in weights]
