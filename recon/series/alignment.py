"""Where each recorded map sits on the detector of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Alignment:
    """Where each recorded map sits on the detector of the model.

    A recorded pixel ``(v, u)``, measured from the centre of its frame, shows the ideal projection
    (tilt axis vertical, through the centre) at ``R(-rotation) (v - shift_v, u - shift_u - axis_offset)``:
    a feature of the ideal projection at ``(v, u)`` is recorded at
    ``v' = v cos r + u sin r + shift_v`` and ``u' = u cos r - v sin r + shift_u + axis_offset``.
    A positive rotation turns the recorded axis from +v (down) towards -u (left).

    Attributes:
        shifts: ``(tilt, 2)`` float64, ``(v, u)`` in pixels, residual drift of each map.
        rotation_deg: in-plane angle of the tilt axis, degrees.
        axis_offset: column of the tilt axis from the frame's centre, pixels.
        method: how it was found.
        residual: ``(tilt,)`` reduced chi-square of each map against its re-projection, if known.
        errors: ``(tilt, 2)`` standard errors of the displacements, ``(v, u)`` in pixels, less what a
            translation of the object explains; nan where a tilt was left out; None if not estimated.
        rotation_error: standard error of the rotation, degrees, if estimated.
        converged: whether the estimate settled; None where nothing was iterated.
        doubts: one line for each reason to doubt it; empty if it passed its own checks.
    """

    shifts: NDArray[np.float64]
    rotation_deg: float = 0.0
    axis_offset: float = 0.0
    method: str = "none"
    residual: NDArray[np.float64] | None = None
    errors: NDArray[np.float64] | None = None
    rotation_error: float | None = None
    converged: bool | None = None
    doubts: tuple[str, ...] = ()

    @classmethod
    def identity(cls, n_tilts: int) -> Alignment:
        return cls(np.zeros((n_tilts, 2)))

    @property
    def is_identity(self) -> bool:
        return not (self.shifts.any() or self.rotation_deg or self.axis_offset)

    def __str__(self) -> str:
        sure = "" if self.rotation_error is None else f" +- {self.rotation_error:.2f}"
        return (
            f"{self.method}; axis at {self.axis_offset:+.2f} pixels, rotated by {self.rotation_deg:+.2f}{sure} degrees"
            f"; largest shift {np.abs(self.shifts).max():.1f} pixels"
        )

    @property
    def displacements(self) -> NDArray[np.float64]:
        """``(tilt, 2)``, ``(v, u)`` in pixels: shifts with the axis offset included."""
        return np.asarray(self.shifts + np.array([0.0, self.axis_offset]))
