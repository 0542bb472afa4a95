"""From what fits and simulated recordings gave to answers: values, intervals, ratios."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from recon.analysis.answers import ElementAnswer, Ratio, RegionAnswer
from recon.analysis.asking import Asked
from recon.analysis.places import Place

if TYPE_CHECKING:
    from numpy.typing import NDArray

# By benchmarks/regions.py, of simulated particles: standard errors that simulations of the fit do not show, of the pure
# phase. The fitted model itself has something of the regulariser and of borders drawn wrong, and where the alignment
# was estimated, of what its own errors leave out.
UNSEEN, UNSEEN_OF_ALIGNMENT = 0.015, 0.015
# Of a bias that simulations show so much is taken off, and as much counts as a standard error: what was simulated is
# the model, not the object, so that the bias of the answer may be all of it or none.
OF_BIAS = 0.5
# Degrees of freedom of standard errors that were judged, not counted: each is known to some 40 %, which makes the tails
# of what they bound longer (JCGM 100:2008, G.4.2).
JUDGED = 3
DETECTION = 3.29  # standard errors: 5 % to see what is not there, 5 % to miss what is


@dataclass(frozen=True)
class Errors:
    """How far an answer may be off.

    Attributes:
        n: simulated recordings.
        sd: how far their answers scatter about what they were made from.
        bias: by how much the mean of their answers differs from that.
        pull: what half or twice the strength of the regulariser changes, the larger of the two.
        aligned: whether the alignment was estimated.
    """

    n: int
    sd: float
    bias: float
    pull: float
    aligned: bool

    @classmethod
    def of(cls, fractions: NDArray[np.float64], off: NDArray[np.float64], aligned: bool) -> Errors:
        """Of the answers at `STRENGTHS`, and the errors of the simulated recordings' answers."""
        pull = float(np.abs(fractions[1:] - fractions[0]).max())
        return cls(len(off), float(off.std(ddof=1)), float(off.mean()), pull, aligned)

    @property
    def noise(self) -> float:
        """The standard error that simulated recordings show, of an answer against their mean."""
        return float(self.sd * (1 + 1 / self.n) ** 0.5)

    @property
    def judged(self) -> tuple[float, ...]:
        """The standard errors that are no noise."""
        return UNSEEN, UNSEEN_OF_ALIGNMENT * self.aligned, OF_BIAS * abs(self.bias), self.pull

    @property
    def all(self) -> float:
        """Standard error."""
        return float(np.linalg.norm((self.noise, *self.judged)))

    @property
    def degrees_of_freedom(self) -> float:
        """Of `all`, by Welch and Satterthwaite (JCGM 100:2008, G.2b)."""
        parts = self.noise**4 / (self.n - 1) + sum(e**4 for e in self.judged) / JUDGED
        return float(self.all**4 / parts)

    def reach(self, level: float) -> float:
        """Half the width of the interval that holds the truth at a level, 0 to 1."""
        from scipy.special import stdtrit

        return float(stdtrit(self.degrees_of_freedom, 0.5 + level / 2)) * self.all


def answer(
    k: int, place: Place, results: Mapping[str, Asked], errors: Mapping[str, Errors],
    shown: Mapping[str, float], found_again: float | None,
) -> RegionAnswer:  # fmt: skip
    """What a region holds.

    Args:
        k: its position among the places of `results`.
        place: the region.
        results: element to its fits.
        errors: element to how far its answer may be off.
        shown: element to the mean of its volume, as it was reconstructed.
        found_again: share of the simulated recordings in which the place was found; None where it was given.
    """
    elements = {
        name: _of_element(name, r.means[:, k], r.means[:, -1], errors[name], r.log_ratios[k], shown[name])
        for name, r in results.items()
    }
    ratios = tuple(_ratio(elements[a], elements[b], errors[a].all, errors[b].all) for a, b in combinations(elements, 2))
    return RegionAnswer(place.name, float(place.fraction.sum()), place.outline, elements, ratios, found_again)


def _of_element(
    element: str, means: NDArray[np.float64], pure: NDArray[np.float64], errors: Errors, log_ratio: float, shown: float
) -> ElementAnswer:
    fraction, half, twice = (max(0.0, float(f) - OF_BIAS * errors.bias) for f in means / np.maximum(pure, 1e-30))
    at68, at95 = errors.reach(0.68), errors.reach(0.95)
    return ElementAnswer(
        element=element,
        density=fraction * float(pure[0]),
        pure=float(pure[0]),
        fraction=fraction,
        low68=max(0.0, fraction - at68),
        high68=fraction + at68,
        low95=max(0.0, fraction - at95),
        high95=fraction + at95,
        smallest=DETECTION * errors.all,
        shown=shown / max(float(pure[0]), 1e-30),
        half_strength=half,
        twice_strength=twice,
        log_ratio=float(log_ratio) if np.isfinite(log_ratio) else None,
        repeatability=errors.sd,
        bias=errors.bias,
    )


def _ratio(a: ElementAnswer, b: ElementAnswer, of_a: float, of_b: float) -> Ratio:
    """By E. C. Fieller's theorem (J. R. Stat. Soc. B 16, 175 (1954)) for two independent normal estimates."""
    z2 = 1.96**2
    value = a.fraction / b.fraction if b.fraction > 0 else np.inf
    lead = b.fraction**2 - z2 * of_b**2
    if lead <= 0:  # the second may be none
        return Ratio(a.element, b.element, float(value), a.low95 / b.high95 if b.high95 else 0.0, np.inf)
    middle = a.fraction * b.fraction
    root = np.sqrt(max(middle**2 - lead * (a.fraction**2 - z2 * of_a**2), 0.0))
    return Ratio(a.element, b.element, float(value), max(0.0, float(middle - root) / lead), float(middle + root) / lead)


__all__ = ["Errors", "answer"]
