"""Places where one element's domain reaches into another's, or lies inside it, found in the volumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from recon.analysis.interfaces import slopes
from recon.analysis.mask import extent, mask
from recon.analysis.phases import sharpened, typical_density
from recon.errors import InputError
from recon.series.volume import Volume, by_element

if TYPE_CHECKING:
    from numpy.typing import NDArray

PRESENT = 0.3  # of an element's pure density, above which a voxel belongs to its domain
HOST = 0.5  # of the other's, above which a voxel is the host's
WIDEST = 0.5  # half the width of a place over the particle's, at most: what is wider is a body
THINNEST = 1.1  # voxels, half of what is cut off along a border that the host's dents do not quite follow
THICK = 1.9  # voxels from the border in its middle, at least: what is thinner may be blur
SURROUNDED = 0.4  # of one that sticks out of a body
THICKER, SLIMMER = 0.8, 0.85  # voxels by which a body has to be thicker than what sticks out of it; at most so far
FINER = 0.4  # voxels, from one opening that is tried to the next
LARGEST = 0.25  # of the host's volume: what is larger is a body
FLAT = 0.05  # per voxel, of the density: what falls slower is no border
NECK = 0.2  # voxels by which a domain has to narrow between two parts of it
JOINT = 0.6  # of a place's border at which its own domain goes on, at most: simulated places mostly have below 0.45
BOTH = 0.25  # of what there is, that each of two elements is at least where they are mixed
BLEND = 1.5  # voxels from where only one of them is, in the middle of a mixture at least: the blur of a border has less
EMBEDDED = 0.45  # of a place that lies in the host as it would be without dents and holes, at least
INSIDE = 0.9  # of a part that is told apart by what it holds: a body between two others is not inside either
AROUND = 4  # voxels around the particle that finding its places looks at
OUTLINE = 0.04  # standard error of a border over the way in which the density falls across it; by size, simulated


@dataclass(frozen=True, eq=False)
class Feature:
    """A place where one element's domain reaches into another's, or lies inside it.

    Attributes:
        name: such as ``"Co in Zn 1"``, the largest first.
        element: whose domain it is a part of.
        host: into whose domain it reaches.
        kind: ``"inclusion"`` (apart from the rest of its domain), ``"protrusion"`` (joined to it at one place) or
            ``"bridge"`` (at several).
        fraction: ``(z, y, x)`` float32, the part of each voxel that lies in it.
        outline: standard error of where its border lies, voxels: `OUTLINE` times the way in which the density falls by
            its height there.
    """

    name: str
    element: str
    host: str
    kind: str
    fraction: NDArray[np.float32]
    outline: float

    @property
    def size(self) -> float:
        """Its volume, voxels."""
        return float(self.fraction.sum(dtype=np.float64))

    def __repr__(self) -> str:
        return f"Feature({self.name}: {self.kind} of {self.size:.0f} voxels, outline +- {self.outline:.1f})"


def features(volumes: Mapping[str, Volume], inside: NDArray[np.bool_] | None = None) -> dict[str, Feature]:
    """Propose places to ask about: protrusions, inclusions and bridges, largest first.

    A domain is where an element exceeds `PRESENT` of its pure density. It is split where it narrows (the watershed of
    the distance to its border, which is known to a part of a voxel), and inside the host where a mixture goes over into
    something purer. A part is a place if it lies where the host would be if its dents and holes up to some width were
    filled (a morphological closing), is thick enough to be more than the blur of a border, and shares not much more
    than half of its border with the rest of its domain. The largest part of each domain is its body, and no place; if
    that lies inside the host too, the one that most others touch. What of a body lies in the host's dents is cut out,
    and split alike.

    Args:
        volumes: element to volume, of one shape.
        inside: ``(z, y, x)``, the particle; `recon.mask` by default.

    Returns:
        Name to `Feature`; empty where nothing reaches into anything, or with fewer than two elements.

    Raises:
        InputError: volumes of different shapes.
    """
    volumes = by_element(volumes)
    shapes = {v.values.shape for v in volumes.values()}
    if len(shapes) > 1:
        raise InputError(f"the volumes have shapes {', '.join(map(str, shapes))}; they must agree")
    if len(volumes) < 2:
        return {}
    inside = mask(volumes) if inside is None else inside
    at = extent(inside, AROUND)
    relative = {n: v.values[at] / max(typical_density(v.values, inside), 1e-30) for n, v in volumes.items()}
    found: list[Feature] = []
    for element, host in permutations(volumes, 2):
        found += _reaching(element, host, relative[element], relative[host], inside[at])
    # what is apart from the rest of its domain has a border of its own all around, so it comes before cuts
    found = sorted(_apart(sorted(found, key=lambda f: (f.kind != "inclusion", -f.size))), key=lambda f: -f.size)
    counted: dict[str, int] = {}
    out = {}
    for feature in found:
        pair = f"{feature.element} in {feature.host}"
        counted[pair] = counted.get(pair, 0) + 1
        name = f"{pair} {counted[pair]}"
        fraction = np.zeros(inside.shape, np.float32)
        fraction[at] = feature.fraction
        out[name] = replace(feature, name=name, fraction=fraction)
    return out


def _reaching(
    element: str, host: str, own: NDArray[np.float32], other: NDArray[np.float32], inside: NDArray[np.bool_]
) -> list[Feature]:
    """The places of one element in one host."""
    from scipy import ndimage

    domain = (own > PRESENT) & inside
    land = (other > HOST) & inside
    if not domain.any() or not land.any():
        return []
    widest = WIDEST * (0.75 / np.pi * float(inside.sum())) ** (1 / 3)
    hull = _closed(land, widest) & inside
    parts, blends = _told_apart(own, other, domain, hull)
    out, body = [], _body(parts, blends, hull)
    for k in np.unique(parts[parts > 0]):
        here = parts == k
        if k != body and hull[here].mean() >= EMBEDDED:
            pieces = [here]
        else:  # what of it lies in the host's dents
            labels, n = ndimage.label(_opened(here & hull, THINNEST))
            pieces = [_whole(labels == i, here, hull) for i in range(1, n + 1)]
            if k == body and hull[here].mean() >= EMBEDDED:  # a body inside its host: what sticks out of it
                rest = here & ~_opened(here, SLIMMER * depth(here))
                labels, n = ndimage.label(_opened(rest, THINNEST))
                pieces = [labels == i for i in range(1, n + 1)]
        small = [p for piece in pieces if piece.sum() <= LARGEST * land.sum() for p in _split(piece)]
        small = [p for p in small if depth(p) >= THICK and _joint(p, domain) <= JOINT]
        out += [_feature(element, host, own, p, domain) for p in small]
    return out


def _told_apart(
    own: NDArray[np.float32], other: NDArray[np.float32], domain: NDArray[np.bool_], hull: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], set[int]]:
    """The parts of a domain, and which of these are mixtures beside pure ones.

    Where a part inside the host holds a thick mixture and something else that is thick, the two are told apart by what
    they hold: between them there may be no neck.
    """
    parts, mixed = _parts(_depths(own, domain), domain), _mixed(own, other, domain)
    blends: set[int] = set()
    for k in range(1, int(parts.max(initial=0)) + 1):
        here = parts == k
        blend, rest = here & mixed, here & ~mixed
        if not (blend.any() and rest.any()) or hull[here].mean() < INSIDE:
            continue
        if min(depth(blend), depth(rest)) < THICK:
            continue
        for piece in (rest, blend):
            new, last = _parts(_depths(own, piece), piece)[piece], parts.max()
            parts[piece] = np.where(new > 0, last + new, 0)
        blends |= {int(i) for i in np.unique(parts[blend])}
    return parts, blends


def _mixed(own: NDArray[np.float32], other: NDArray[np.float32], domain: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where a domain holds much of both elements, and is too thick there to be the blur of a border."""
    from scipy import ndimage

    share = other / np.maximum(own + other, np.float32(1e-30))
    both = domain & (share > BOTH)
    thick = _opened(both & (share < 1 - BOTH), BLEND)
    return np.asarray(ndimage.binary_dilation(thick, iterations=2, mask=both)) if thick.any() else thick


def _body(parts: NDArray[np.int32], blends: set[int], hull: NDArray[np.bool_]) -> int:
    """The part of a domain that others are parts of: the largest; inside the host, the pure one that most others touch.

    The heart of a network may be smaller than a knot on it.
    """
    from scipy import ndimage

    sizes = np.bincount(parts.ravel(), minlength=2)
    sizes[0] = 0
    largest = int(np.argmax(sizes))
    if hull[parts == largest].mean() < EMBEDDED:
        return largest
    thick = {int(k) for k in np.flatnonzero(sizes) if depth(parts == k) >= THICK}
    pure = [k for k in thick if k not in blends]

    def touching(k: int) -> tuple[int, int]:
        around = np.unique(parts[ndimage.binary_dilation(parts == k)])
        return len(thick.intersection(map(int, around))), int(sizes[k])

    return max(pure, key=touching) if pure else largest


def _joint(piece: NDArray[np.bool_], domain: NDArray[np.bool_]) -> float:
    """The part of a piece's border at which its own domain goes on."""
    from scipy import ndimage

    at = extent(piece, 1)
    around = ndimage.binary_dilation(piece[at]) & ~piece[at]
    return float(domain[at][around].mean()) if around.any() else 1.0


def _split(piece: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """A piece, or its parts if two of them at least are thick."""
    from scipy import ndimage

    at = extent(piece, 1)
    parts = _parts(ndimage.distance_transform_edt(piece[at]), piece[at])
    found = []
    for k in range(1, int(parts.max(initial=0)) + 1):
        part = np.zeros_like(piece)
        part[at] = parts == k
        found.append(part)
    return found if sum(depth(p) >= THICK for p in found) > 1 else [piece]


def _whole(piece: NDArray[np.bool_], here: NDArray[np.bool_], hull: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What sticks out of a domain where a piece of it lies in the host's dents: all that is hardly thicker than it."""
    from scipy import ndimage

    deep = _to_border(here)
    most = SLIMMER * float(deep.max())
    for radius in np.arange(min(depth(piece) + THICKER, most), most + 1e-6, FINER):
        labels, n = ndimage.label(_opened(here & ~_opened(here, radius, deep), THINNEST))
        shared = np.bincount(labels[piece], minlength=n + 1)
        shared[0] = 0
        whole = np.asarray(labels == np.argmax(shared))
        enough = shared.max() >= piece.sum() / 2 and piece.sum() <= whole.sum() <= 3 * piece.sum()
        if enough and hull[whole].mean() >= SURROUNDED and depth(whole) >= THICK:
            return whole
    return piece


def _opened(domain: NDArray[np.bool_], radius: float, deep: NDArray[np.float64] | None = None) -> NDArray[np.bool_]:
    """The morphological opening by a ball: what is thinner is taken away; `deep` is what `_to_border` gives of it."""
    from scipy import ndimage

    out, at = np.zeros_like(domain), extent(domain, 1)
    if radius < 1:
        return domain.copy()
    if radius < 2:  # the ball is a voxel with its neighbours across faces, edges, corners
        ball = ndimage.generate_binary_structure(3, int(radius**2 + 1e-9))
        shrunk = ndimage.binary_erosion(domain[at], ball, border_value=1)
        out[at] = ndimage.binary_dilation(shrunk, ball)
        return out
    shrunk = (_to_border(domain) if deep is None else deep)[at] > radius
    if shrunk.any():
        out[at] = (ndimage.distance_transform_edt(~shrunk) <= radius) & domain[at]
    return out


def _to_border(domain: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How far each voxel of a domain is from what does not belong to it, 0 elsewhere."""
    from scipy import ndimage

    out, at = np.zeros(domain.shape), extent(domain, 1)
    out[at] = ndimage.distance_transform_edt(domain[at])
    return out


def _depths(own: NDArray[np.float32], domain: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How deep each voxel lies in a domain, to a part of a voxel: its border is where the density crosses `PRESENT`."""
    from scipy import ndimage

    out, at = np.zeros(domain.shape), extent(domain, 2)
    depth, nearest = ndimage.distance_transform_edt(domain[at], return_indices=True)
    before = np.clip((PRESENT - own[at]) / np.maximum(_steepness(own[at]), FLAT), 0, 1)
    out[at] = np.where(domain[at], depth - before[tuple(nearest)], 0)
    return out


def _steepness(own: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much the density changes over a voxel."""
    gz, gy, gx = slopes(own)
    return np.asarray(np.sqrt(gz * gz + gy * gy + gx * gx))


def depth(domain: NDArray[np.bool_]) -> float:
    """How far the voxel that lies deepest in a domain is from what does not belong to it."""
    return float(_to_border(domain).max())


def _closed(land: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """The morphological closing by a ball: dents and holes narrower than it are filled."""
    from scipy import ndimage

    # along an axis of one voxel there is no room, through which a hole would stay open
    room = [int(np.ceil(radius)) + 1 if n > 1 else 0 for n in land.shape]
    out, at = land.copy(), extent(land)
    padded = np.pad(land[at], [(n, n) for n in room])
    grown = ndimage.distance_transform_edt(~padded) <= radius
    closed = ndimage.distance_transform_edt(grown) > radius
    out[at] |= closed[tuple(slice(n, size - n) for n, size in zip(room, padded.shape, strict=True))]
    return out


def _parts(depth: NDArray[np.float64], domain: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The domain split where it narrows by `NECK` voxels at least, labels from 1."""
    from scipy import ndimage
    from skimage.morphology import h_maxima
    from skimage.segmentation import watershed

    out, at = np.zeros(domain.shape, np.int32), extent(domain, 3)
    smooth = ndimage.gaussian_filter(depth[at], 0.5)
    markers, _ = ndimage.label(h_maxima(smooth, NECK), np.ones((3, 3, 3)))
    out[at] = watershed(-smooth, markers, mask=domain[at])
    return out


def _feature(
    element: str, host: str, own: NDArray[np.float32], here: NDArray[np.bool_], domain: NDArray[np.bool_]
) -> Feature:
    from scipy import ndimage

    height = float(np.percentile(own[here], 85))
    near = ndimage.binary_dilation(here, iterations=2) & (here | ~domain)
    fraction = np.where(near, sharpened(own / height), np.float32(0)).astype(np.float32)
    # how fast the density falls where the border is that of the domain, not a cut through it
    steep = _steepness(own / height)
    border = near & (fraction > 0.1) & (fraction < 0.9)
    slope = float(np.median(steep[border])) if border.any() else 0.0
    touching = ndimage.binary_dilation(here) & domain & ~here
    _, joints = ndimage.label(touching, np.ones((3, 3, 3)))
    kind = ("inclusion", "protrusion")[joints] if joints < 2 else "bridge"
    return Feature("", element, host, kind, fraction, OUTLINE / max(slope, 0.1))


def _apart(found: list[Feature]) -> list[Feature]:
    """Without those that mostly lie in an earlier one, and the rest without what is an earlier one's."""
    taken: NDArray[np.float32] | None = None
    out = []
    for f in found:
        fraction = f.fraction if taken is None else np.minimum(f.fraction, 1 - taken)
        if fraction.sum() < 0.6 * f.size:
            continue
        out.append(replace(f, fraction=fraction))
        taken = fraction.copy() if taken is None else taken + fraction
    return out


__all__ = ["Feature", "depth", "features"]
