"""What composition answers: values, intervals and verdicts of regions, and their JSON."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ABSENT = 0.25  # of the pure phase: what is surely below is absent, what is surely above is present
CANNOT_BE_TOLD = "cannot be told"
STEADY = 0.7  # of the simulated recordings that have to show a place that was found, for a verdict on what it holds
LEVELS = (0.68, 0.95)


@dataclass(frozen=True)
class ElementAnswer:
    """How much of one element a region holds.

    Attributes:
        element: name.
        density: mean over the region, counts per voxel length per unit exposure.
        pure: that of the element's pure phase, asked for in the same way.
        fraction: ``density / pure``, less half of `bias`.
        low68, high68, low95, high95: intervals of `fraction`.
        smallest: the least fraction that these data would have shown here: told from none in 95 of 100 cases, at a
            risk of 5 % to see some where there is none (L. A. Currie, Anal. Chem. 40, 586 (1968)).
        shown: mean of the volume as it was reconstructed over the region, as a fraction of `pure`.
        half_strength, twice_strength: `fraction` with the regulariser at half and at twice its strength.
        log_ratio: natural logarithm of the likelihood with the element present (at a quarter of its pure phase or
            more) over that with none of it here, from two constrained fits; None if not asked for.
        repeatability: standard deviation of `fraction` over the simulated recordings.
        bias: by how much their mean differs from what they were simulated from.
    """

    element: str
    density: float
    pure: float
    fraction: float
    low68: float
    high68: float
    low95: float
    high95: float
    smallest: float
    shown: float
    half_strength: float
    twice_strength: float
    log_ratio: float | None = None
    repeatability: float = 0.0
    bias: float = 0.0

    def at(self, fraction: float) -> str:
        """``"absent"``, ``"present"`` or ``"open"`` for an estimate with this answer's 95 % interval around it."""
        low, high = self.low95 - self.fraction + fraction, self.high95 - self.fraction + fraction
        return "absent" if high < ABSENT else "present" if low > ABSENT else "open"

    @property
    def verdict(self) -> str:
        """As `at`; open as well if half or twice the strength would say otherwise."""
        said = {self.at(f) for f in (self.fraction, self.half_strength, self.twice_strength)}
        return said.pop() if len(said) == 1 else "open"


@dataclass(frozen=True)
class Ratio:
    """Of the densities of two elements in a region, each as a fraction of its pure phase.

    Attributes:
        first, second: names.
        value: fraction of the first over fraction of the second; infinite where the second's is 0.
        low95, high95: interval; `high95` is infinite where the second may be absent.
    """

    first: str
    second: str
    value: float
    low95: float
    high95: float


@dataclass(frozen=True)
class RegionAnswer:
    """What a region holds.

    Attributes:
        name: of the region.
        voxels: its volume.
        outline: standard error of where its border lies, voxels; 0 where it was given.
        elements: element to answer.
        ratios: of each pair.
        found_again: share of the simulated recordings in which the place was found; None where it was given.
    """

    name: str
    voxels: float
    outline: float
    elements: Mapping[str, ElementAnswer]
    ratios: tuple[Ratio, ...] = ()
    found_again: float | None = None

    @property
    def verdict(self) -> str:
        """``"Co alone"``, ``"Co and Zn"``, ``"empty"`` or ``"cannot be told"``."""
        said = {n: a.verdict for n, a in self.elements.items()}
        if "open" in said.values() or self.unsteady:
            return CANNOT_BE_TOLD
        present = [n for n, s in said.items() if s == "present"]
        return {0: "empty", 1: f"{present[0]} alone" if present else ""}.get(len(present), " and ".join(present))

    @property
    def unsteady(self) -> bool:
        """Whether another recording might not show this place, or one of quite another outline."""
        return self.found_again is not None and self.found_again < STEADY

    @property
    def why(self) -> str:
        """The verdict's reason, in one line."""
        parts = []
        if self.unsteady:
            parts.append(f"only {self.found_again:.0%} of simulated recordings show this place")
        for name, a in self.elements.items():
            between = f"{name} {a.low95:.2f} to {a.high95:.2f} of the pure phase"
            if a.verdict == "open" and a.at(a.fraction) != "open":
                between += f", but another strength gives {a.half_strength:.2f} or {a.twice_strength:.2f}"
            parts.append(between)
        return f"{'; '.join(parts)} (95 %); absent below {ABSENT:g}, present above"


@dataclass(frozen=True, eq=False)
class Composition:
    """The answers of `recon.composition`.

    Attributes:
        regions: name to answer, in the order in which they were asked.
        labels: ``(z, y, x)`` uint16, the voxels over which means were taken: 1 for the first region and so on, else 0.
        replicates: simulated recordings behind the intervals.
        seed: of their random numbers.
        found: whether the regions were found in the volumes rather than given.
        iterations: spent, element by element.
        factor: edge of the voxels on which they were asked about, in those of the volumes, see
            `recon.analysis.coarser`.
    """

    regions: Mapping[str, RegionAnswer]
    labels: NDArray[np.uint16]
    replicates: int
    seed: int
    found: bool
    iterations: Mapping[str, int] = field(default_factory=dict)
    factor: int = 1

    def __iter__(self) -> Any:
        return iter(self.regions)

    def __getitem__(self, name: str) -> RegionAnswer:
        return self.regions[name]

    def __len__(self) -> int:
        return len(self.regions)

    def __repr__(self) -> str:
        return "\n".join(self.lines()) or "Composition of no region"

    @property
    def record(self) -> dict[str, Any]:
        """JSON values: region -> element -> numbers, and region -> ``verdict``, ``why``, ``voxels``, ``ratios``."""
        out: dict[str, Any] = {}
        for name, region in self.regions.items():
            entry: dict[str, Any] = {n: _plain(asdict(a)) for n, a in region.elements.items()}
            entry |= {"verdict": region.verdict, "why": region.why}
            entry |= {"voxels": region.voxels, "outline": region.outline, "found_again": region.found_again}
            entry["ratios"] = [_plain(asdict(r)) for r in region.ratios]
            out[name] = entry
        return out

    @classmethod
    def of(cls, record: Mapping[str, Any], labels: NDArray[np.uint16], **how: Any) -> Composition:
        """From what `record` and JSON made of one, and its label image; `how` holds the other fields."""
        regions = {}
        for name, entry in record.items():
            elements = {n: ElementAnswer(**a) for n, a in entry.items() if isinstance(a, dict)}
            ratios = tuple(_ratio(r) for r in entry["ratios"])
            regions[name] = RegionAnswer(
                name, entry["voxels"], entry["outline"], elements, ratios, entry.get("found_again")
            )
        return cls(regions, labels, **{"replicates": 0, "seed": 0, "found": False, **how})

    def _repr_html_(self) -> str:
        """For notebooks: a table of regions and elements, each answer drawn with its 68 and 95 % intervals."""
        rows = "".join(
            f"<tr><th>{html.escape(r.name)}</th><td>{html.escape(r.verdict)}</td><td>{html.escape(n)}</td>"
            f"<td>{a.fraction:.2f}</td><td>{a.low95:.2f} to {a.high95:.2f}</td><td>{_drawn(a)}</td></tr>"
            for r in self.regions.values()
            for n, a in r.elements.items()
        )
        heads = ("region", "verdict", "element", "of pure phase", "95 % interval", "0 to 1.2")
        return f"<table><tr>{''.join(f'<th>{h}</th>' for h in heads)}</tr>{rows}</table>"

    def lines(self) -> list[str]:
        """One line for each region, as the terminal shows them."""
        out = []
        for region in self.regions.values():
            parts = ", ".join(
                f"{n} {a.fraction:.2f} [{a.low95:.2f} to {a.high95:.2f}]" for n, a in region.elements.items()
            )
            out.append(f"{region.name}: {parts} of the pure phase -> {region.verdict}")
        return out


def _drawn(a: ElementAnswer) -> str:
    """A line from 0 to 1.2 of the pure phase with the answer, its intervals, and where absent becomes present."""

    def at(value: float) -> str:
        return f"{100 * min(max(value, 0.0), 1.2):.1f}"

    def line(low: float, high: float, wide: int) -> str:
        return f"<line x1='{at(low)}' x2='{at(high)}' y1='8' y2='8' stroke='#1f6fb4' stroke-width='{wide}'/>"

    return (
        "<svg width='124' height='16' viewBox='-2 0 124 16' role='img' aria-label='the interval, drawn'>"
        "<line x1='0' x2='120' y1='8' y2='8' stroke='#ccc'/>"
        f"<line x1='{at(ABSENT)}' x2='{at(ABSENT)}' y1='1' y2='15' stroke='#999' stroke-dasharray='2 2'/>"
        f"{line(a.low95, a.high95, 2)}{line(a.low68, a.high68, 5)}"
        f"<circle cx='{at(a.fraction)}' cy='8' r='4' fill='#0b3c66'/></svg>"
    )


def _ratio(record: Mapping[str, Any]) -> Ratio:
    infinite: dict[str, Any] = {k: np.inf if v is None else v for k, v in record.items()}
    return Ratio(**infinite)


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """Without infinities, which JSON has not."""
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in record.items()}


__all__ = ["ABSENT", "CANNOT_BE_TOLD", "Composition", "ElementAnswer", "Ratio", "RegionAnswer"]
