"""Where the object is in the maps, how much lies under it, and whether it is wholly in view.

A map is taken apart into an even ground and what stands out of it. The ground is the darkest level at which a good part
of the frame scatters no more than the noise does; where the counts say so it may slope. Everything else follows
from it: the object is what exceeds the ground, it is in view where none of that lies along the frame's border, and
the pixels away from it tell the background of each element. A map without such a ground is filled by its object, and
then nothing in it says how much of the counts is background.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recon.preparation.bad_pixels import without_faults
from recon.preparation.screening import screen
from recon.series.channels import share_of_all, together
from recon.series.scene import CLEAR, Scene
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.float64]

FEW = 500  # counts of a map, below which it does not show by itself where the object is
BRIGHT = 300.0  # counts under the smoothing kernel in a bright pixel: it is then known to 6 %
KERNEL = 4 * np.pi  # times sigma^2: pixels whose counts a Gaussian kernel averages (1 / the sum of its squares)
SHARPEST, WIDEST = 1.0, 1 / 24  # of that kernel's sigma: a pixel, and this share of the frame's shorter side
BEYOND = 3.5  # standard deviations beyond which a pixel is no ground: one in 4000 by chance
CERTAIN = 5.5  # standard deviations that a part of the object reaches somewhere: never by chance in a whole series
STANDS_OUT = 0.1  # of the way from ground to brightest: what counts as object at the border, where edges are blurred
TOUCHES = 0.05  # share of a side, or of the border, that is object where the object reaches it
RIM = 0.03  # of the frame's shorter side: how wide the border is
FULL = 0.8  # share of the frame that is object where it fills the frame
EVEN = 1.3  # times its noise's may the spread of the ground be; that of evenly spread values is 1.7 (see `_ground`)
LEAST = 0.08  # share of the frame that the ground takes at least
STARTS = (2.0, 5.0, 10.0, 20.0, 35.0, 50.0)  # percentiles of the map from which its ground is sought
SLOPED = 0.3  # share of the frame that a sloping ground takes at least, or any soft edge is one
FAINT = 0.2  # of the object's height: a fainter film is a support and not the object, see `_film`
UNSURE = 2.0  # times which it may be off
FITTED, TELLING = 5, 0.35  # tilts, and range of -log cos of the tilt (45 degrees), that tell a film from a background
GROWS = 0.25  # power of 1 / cos with which a ground grows that is a film at least in part; a background's is 0
STEEPEST = 0.6  # of the mean: how far a slope may take the ground from it


def locate(series: TiltSeries) -> TiltSeries:
    """The series screened, without pixels that show the instrument, with its `scene` and whether it is `isolated`.

    As it is where that was done before.

    Raises:
        InputError: fewer than three tilts can be used.
    """
    if series.scene is not None:
        return series
    series = screen(without_faults(series))
    scene = look(series)
    return series.evolve(scene=scene, isolated=scene.isolated(series.used))


def doubtful_film(share: float) -> tuple[str, ...]:
    """A line where a film's counts may be either the background's or the object's; none elsewhere."""
    if not FAINT / UNSURE < share < FAINT * UNSURE:
        return ()
    taken, other = "material of the object, background 0", "a support's, give input.background its counts per pixel"
    if share <= FAINT:
        taken, other = "those of a support, which are background", "of the object, set input.background = 0"
    return (
        f"an even ground of {share:.0%} of the object's height grows with tilt as a film does; its counts are taken as "
        f"{taken}; if they are {other}",
    )


def look(series: TiltSeries) -> Scene:
    """Find the object in every map, whatever was found before: all elements together, known background taken off.

    Where most maps hold too few counts to show anything by themselves, they are added up, and what is away from the
    object in all of them is told.
    """
    total, seen = together(series)
    known = np.zeros_like(total)
    if series.background_maps is not None:
        known = (series.background_maps * series.present[:, :, None, None]).sum(axis=0)
    scene = _each(total, known, seen, series)
    few = not series.scaled and bool(np.median(total.sum(axis=(1, 2))) < FEW)
    if few and scene.grounded[series.used].mean() < 0.5:
        total, known = (np.broadcast_to(a.sum(axis=0), a.shape) for a in (total, known))
        scene = _each(total, known, seen, series)
    return scene


def _each(total: Image, known: Image, seen: NDArray[np.bool_], series: TiltSeries) -> Scene:
    empty = np.zeros(total.shape, bool)
    reach = np.zeros(len(total), np.intp)
    level, height = np.full(len(total), np.nan), np.full(len(total), np.nan)
    part = share_of_all(series)
    for i in range(len(total)):
        if seen[i].any():
            empty[i], reach[i], level[i], height[i] = _one(total[i], known[i], seen[i], series.scaled)
    grounded = np.isfinite(level)
    above = np.array([m[s].sum() for m, s in zip(total - known, seen, strict=True)]) - level * seen.sum(axis=(1, 2))
    film = _film(series.tilts_deg, level / part, height / part, above / part if (reach == 0).mean() >= CLEAR else None)
    if film > FAINT:  # what stands out is embedded in it
        return Scene(np.zeros_like(empty), np.where(grounded, 2, reach), np.zeros_like(grounded), film)
    return Scene(empty & seen, reach, grounded, film)


def _film(tilts_deg: Image, level: Image, height: Image, above: Image | None) -> float:
    """Share of the object's height that the ground has if it is a film; 0 if it is none.

    A film fills the frame as evenly as a background does, but along the beam it gets thicker as ``1 / cos`` of the
    tilt. That is looked for in the logarithm of the level, over the object's total where this is constant (exposure
    then drops out), beside what is odd in the tilt. A faint one is a support, whose counts are background; what stands
    out of a stronger one is embedded in it, which then is material of the object.
    """
    told = np.isfinite(level) & (level > 0)
    if above is not None:
        told &= above > 0
    if told.sum() < FITTED:
        return 0.0
    share = float(np.median(level[told]) / max(float(np.median(height[told])), 1e-30))
    t = np.radians(tilts_deg[told])
    thicker = -np.log(np.maximum(np.cos(t), 0.05))
    if np.ptp(thicker) < TELLING:
        return 0.0
    value = np.log(level[told]) - (0 if above is None else np.log(above[told]))
    basis = np.stack([np.ones_like(t), t, thicker], axis=1)
    found, *_ = np.linalg.lstsq(basis, value, rcond=None)
    noise = np.sum((value - basis @ found) ** 2) / (told.sum() - 3)
    grows = found[2] > max(GROWS, 4 * np.sqrt(noise * np.linalg.inv(basis.T @ basis)[2, 2]))
    return share if grows else 0.0


def _one(
    image: Image, known: Image, seen: NDArray[np.bool_], scaled: bool
) -> tuple[NDArray[np.bool_], int, float, float]:
    """Empty pixels, reach, level of the ground (nan if there is none) and how far the object rises above it."""
    from scipy import ndimage

    shorter = min(image.shape)
    noise = _scatter(image, seen) if scaled else None
    bright = float(np.percentile(image[seen], 98))
    sigma = np.sqrt(BRIGHT / KERNEL / max(bright, 1e-6)) if noise is None else 1.0
    sigma = float(np.clip(sigma, SHARPEST, max(shorter * WIDEST, SHARPEST)))
    smooth, quantum = _smoothed(image - known, seen, sigma)
    ground = _ground(smooth, known, quantum, None if noise is None else noise * np.sqrt(quantum), seen)
    top = float(np.percentile(smooth[seen], 99.8))
    if ground is None:
        dark = float(np.percentile(smooth[seen], 2))
        inside = smooth > dark + STANDS_OUT * (float(np.percentile(smooth[seen], 98)) - dark)
        if scaled:
            inside |= smooth < dark - STANDS_OUT * (top - dark)
        outer = inside
    else:
        level, error = ground
        outer = smooth > level + BEYOND * error
        inside = smooth > level + np.maximum(BEYOND * error, STANDS_OUT * (top - level))
        if scaled:
            outer |= smooth < level - BEYOND * error
        outer = _sure(outer, np.abs(smooth - level) > CERTAIN * error)
    inside &= seen & outer
    outer &= seen
    reach = _reach(inside, seen)
    if ground is not None and not inside.any():
        reach, ground = 2, None  # nothing stands out: what there is fills the frame
    away = ~ndimage.binary_dilation(outer, iterations=max(1, round(sigma)) + 1)
    floor = np.nan if ground is None else float(ground[0].mean())
    return away, reach, floor, top - floor


def _smoothed(image: Image, seen: NDArray[np.bool_], sigma: float) -> tuple[Image, Image]:
    """Gaussian mean of the pixels that are seen, and its variance where that of a pixel is 1.

    Along the border the kernel holds fewer pixels, so that the mean is noisier there. Where none is near, the median.
    """
    from scipy import ndimage

    def blur(a: Image, width: float) -> Image:
        return np.asarray(ndimage.gaussian_filter(a, width, mode="constant"))

    cover = blur(seen.astype(np.float64), sigma)
    near = np.maximum(cover, 0.05)
    smooth = np.where(cover > 0.05, blur(np.where(seen, image, 0.0), sigma) / near, np.median(image[seen]))
    # the square of a Gaussian is one of sigma / sqrt(2)
    return smooth, blur(seen.astype(np.float64), sigma / np.sqrt(2)) / near**2 / (KERNEL * sigma**2)


def _sure(mask: NDArray[np.bool_], certain: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The connected parts of a mask that hold a certain pixel: others are noise, and taking them off would bias."""
    from scipy import ndimage

    parts, _ = ndimage.label(mask, np.ones((3, 3)))
    keep = np.unique(parts[certain & mask])
    return np.isin(parts, keep[keep > 0])


def _scatter(image: Image, seen: NDArray[np.bool_]) -> float:
    """Standard deviation of a dark pixel of a map without a unit, from differences of neighbours."""
    step = image[1:, 1:] - image[1:, :-1] - image[:-1, 1:] + image[:-1, :-1]
    whole = seen[1:, 1:] & seen[1:, :-1] & seen[:-1, 1:] & seen[:-1, :-1]
    dark = whole & (image[1:, 1:] <= np.median(image[seen]))
    found = float(np.median(np.abs(step[dark]))) / 0.6745 / 2 if dark.any() else 0.0
    return max(found, 1e-6 * float(np.ptp(image[seen])))


def _ground(
    smooth: Image, known: Image, quantum: Image, noise: Image | None, seen: NDArray[np.bool_]
) -> tuple[Image, Image] | None:
    """Level and noise ``(y, x)`` of the ground in a smoothed map, or None if it has no even one.

    From the dark side, pixels within `BEYOND` deviations above the level so far are averaged anew until that changes
    nothing (sigma clipping from below). It ends at the mode of an even ground, whose clipped spread is the noise's, or
    somewhere in a range of evenly spread values, whose clipped spread is ``2 BEYOND / sqrt(12) = 2`` times the noise's;
    `EVEN` lies between. The lowest such level is the ground; level before slope.
    """
    y, x = np.meshgrid(*[np.linspace(-1, 1, m) for m in smooth.shape], indexing="ij")
    planes = [np.ones((1, *smooth.shape)), np.stack([np.ones_like(y), y, x])]
    values, parts = smooth[seen], (known[seen], quantum[seen], None if noise is None else noise[seen])
    for basis, least in zip(planes, (LEAST, SLOPED), strict=True):
        best: tuple[Image, Image] | None = None
        ends = {taken.tobytes(): (found, taken) for found, taken in _clipped(values, basis[:, seen], parts)}
        for found, taken in ends.values():
            if taken.sum() < least * values.size:
                continue
            level = np.tensordot(found, basis, 1)
            sure = _error(level, known, quantum, noise)
            spread = float(np.std((values - level[seen])[taken] / sure[seen][taken]))
            middle = float(level.mean())
            steep = len(basis) > 1 and float(np.abs(level - middle).max()) > STEEPEST * abs(middle)
            if spread < EVEN and not steep and (best is None or middle < best[0].mean()):
                best = level, sure
        if best is not None:
            return best
    return None


def _error(level: Image, known: Image, quantum: Image, noise: Image | None) -> Image:
    """Standard deviation of a smoothed map at a level of the ground."""
    if noise is not None:
        return noise
    # half a count more, or the noise of a map without counts would be 0
    return np.asarray(np.sqrt((np.maximum(level + known, 0) + 0.5 * quantum) * quantum))


def _clipped(
    values: Image, basis: Image, noise: tuple[Image, Image, Image | None]
) -> zip[tuple[Image, NDArray[np.bool_]]]:
    """Coefficients of the basis and pixels taken where clipping ends, from each of `STARTS`.

    All starts at once and by normal equations, since a small map's time goes into calls.
    """
    products = (basis[:, None] * basis).reshape(-1, values.size).T
    right = (basis * values).T
    found = np.zeros((len(STARTS), len(basis)))
    found[:, 0] = np.percentile(values, STARTS)
    taken = np.zeros((len(STARTS), values.size), bool)
    going = np.arange(len(STARTS))
    for _ in range(40):
        level = found[going] @ basis
        now = values < level + BEYOND * _error(level, *noise)
        on = (now != taken[going]).any(axis=1) & (now.sum(axis=1) >= 8)
        if not on.any():
            break
        going, now = going[on], now[on]
        taken[going] = now
        weights = now.astype(np.float64)
        normal = (weights @ products).reshape(-1, len(basis), len(basis))
        normal += 1e-13 * normal[:, :1, :1] * np.eye(len(basis))  # pixels in one line tell no slope across it
        found[going] = np.linalg.solve(normal, (weights @ right)[..., None])[..., 0]
    return zip(found, taken, strict=True)


def _reach(inside: NDArray[np.bool_], seen: NDArray[np.bool_]) -> int:
    """0 for an object clear of the border, 1 where it touches it, 2 where it spans or fills the frame."""
    rim = max(1, round(RIM * min(inside.shape)))
    border = np.ones_like(inside)
    border[rim:-rim, rim:-rim] = False
    share = float(inside.sum() / seen.sum())
    sides = [inside[:rim], inside[-rim:], inside[:, :rim], inside[:, -rim:]]
    top, bottom, left, right = (bool(side.mean() >= TOUCHES) for side in sides)
    if not (top or bottom or left or right or share >= FULL):
        return 0
    return 2 if (top and bottom) or (left and right) or share >= FULL else 1
