"""Where the object is in the maps of a series: a value that the series carries once it has been looked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLEAR = 0.75  # share of the tilts at which an isolated object must be clear of the border


@dataclass(frozen=True, eq=False)
class Scene:
    """What of a series is object, as `recon.preparation.isolation` finds it.

    Attributes:
        empty: ``(tilt, y, x)`` True for pixels away from the object.
        reach: ``(tilt,)`` 0 where the object is clear of the frame's border, 1 where it touches it, 2 where it spans
            or fills the frame.
        grounded: ``(tilt,)`` True where an even ground was found, so that empty pixels tell the background.
        film: share of the object's height that the ground has where it grows with tilt as a film does; 0 elsewhere.
    """

    empty: NDArray[np.bool_]
    reach: NDArray[np.intp]
    grounded: NDArray[np.bool_]
    film: float = 0.0

    def isolated(self, used: NDArray[np.bool_]) -> bool:
        """Whether the object is a particle that is out of the frame at few of the tilts in use, if any."""
        reach = self.reach[used]
        return bool(reach.size and (reach == 0).mean() >= CLEAR and not (reach == 2).any())
