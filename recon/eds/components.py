"""Maps of what lies in a line's window beside the line: continuum and lines of others, per pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.eds.recording import Recording
    from recon.eds.spectrum import Spectrum

SMOOTHED_TO = 8.0  # signal to noise of a component's map before it spreads background over the pixels


def binned(image: NDArray[Any], factor: int) -> NDArray[Any]:
    """``(..., y, x)`` with `factor` x `factor` pixels added up; a rim that does not fill a block is cut."""
    if factor == 1:
        return image
    ny, nx = (n // factor for n in image.shape[-2:])
    cut = image[..., : ny * factor, : nx * factor]
    return np.asarray(cut.reshape(*image.shape[:-2], ny, factor, nx, factor).sum(axis=(-3, -1)))


class Components:
    """Maps of each component of the spectrum, estimated per pixel by one weighted least-squares fit for all.

    Args:
        parts: condensed spectrum images of each detector.
        frame: ``(ny, nx)``.
        spectrum: fit of their sum, from channel `low` on.
        factor: pixels added up along each edge.
        needed: components whose maps are wanted.
    """

    def __init__(
        self, parts: list[Any], frame: tuple[int, int], spectrum: Spectrum, low: int, factor: int, needed: set[str]
    ) -> None:
        present = spectrum.amounts > 3 * spectrum.errors
        # the continuum may change its slope from pixel to pixel, not its details
        span = np.linspace(0, 1, len(spectrum.energies_kev))
        pieces = np.array([spectrum.continuum * (1 - span), spectrum.continuum * span])
        pieces = pieces[pieces.sum(axis=1) > 0]
        names = [f.name for f, p in zip(spectrum.families, present, strict=True) if p] + ["continuum"] * len(pieces)
        design = np.vstack([spectrum.peaks[present] * spectrum.amounts[present][:, None], pieces])
        weights = 1 / np.maximum(spectrum.model, 0.5)
        normal = (design * weights) @ design.T
        # a little of the mean spectrum's composition where the data cannot tell two components apart
        normal += 1e-6 * np.diag(np.diag(normal))
        rows = np.linalg.solve(normal, design * weights)
        spread = np.sqrt((rows**2 * np.maximum(spectrum.model, 0)).sum(axis=1))
        keep = [i for i, n in enumerate(names) if n in needed]
        self.parts, self.shape = len(parts), (frame[0] // factor, frame[1] // factor)
        self.maps: list[dict[str, NDArray[np.float32]]] = []
        for counts in parts:
            cube = binned(project(counts, rows[keep], low).T.reshape(-1, *frame), factor)
            noise = spread[keep] / np.sqrt(self.shape[0] * self.shape[1] * self.parts)
            maps: dict[str, NDArray[np.float32]] = {}
            for i, estimate, level in zip(keep, cube, noise, strict=True):
                smooth = smoothed(estimate, float(level))
                maps[names[i]] = maps[names[i]] + smooth if names[i] in maps else smooth
            self.maps.append(maps)

    def below(self, part: int, share: dict[str, float]) -> NDArray[np.float32]:
        """Expected counts of one part in a window, all components but the line's own."""
        out = np.zeros(self.shape)
        for name, counts in share.items():
            if name in ("counts", "line") or counts <= 0:
                continue
            total = sum(float(m[name].sum()) for m in self.maps if name in m)
            # a component too weak for a map of its own is spread evenly
            out += self.maps[part][name] * (counts / total) if total > 0 else counts / (self.parts * out.size)
        return out.astype(np.float32)


def condensed(data: NDArray[Any]) -> Any:
    """``(pixel, channel)`` as a SciPy CSR matrix of the same type: spectra of single pixels are mostly zeros.

    Everything after it (sums over windows, the summed spectrum, projections) costs a few percent of a pass over
    the dense array.
    """
    from scipy.sparse import csr_matrix

    pixels, channels = data.shape
    values, columns, ends = [], [], [np.zeros(1, np.int64)]
    size = max(1, 2**25 // channels)  # pixels at a time, so that temporary arrays stay small
    for start in range(0, pixels, size):
        chunk = np.ascontiguousarray(data[start : start + size])
        at = np.flatnonzero(chunk.view(bool) if chunk.dtype.itemsize == 1 else chunk != 0)
        values.append(chunk.ravel()[at])
        columns.append((at % channels).astype(np.int32))
        ends.append(ends[-1][-1] + np.searchsorted(at, np.arange(1, len(chunk) + 1) * channels))
    return csr_matrix((np.concatenate(values), np.concatenate(columns), np.concatenate(ends)), shape=data.shape)


def window_sums(counts: Any, spans: list[tuple[int, int]]) -> NDArray[Any]:
    """Plain sums over channels ``first`` to ``last - 1``, ``(window, pixel)``: int64 of whole numbers, else float64."""
    inside = np.zeros((counts.shape[1], len(spans)), np.int64 if counts.dtype.kind in "iu" else np.float64)
    for column, (first, last) in zip(inside.T, spans, strict=True):
        column[first:last] = 1
    return np.asarray((counts @ inside).T)


def spectrum_of(counts: Any) -> NDArray[Any]:
    """The summed spectrum ``(channel,)``: int64 of whole numbers, else float64."""
    if counts.dtype.kind not in "iu":
        return np.asarray(counts.sum(axis=0), dtype=np.float64).ravel()
    return np.asarray(np.ones(counts.shape[0], np.int64) @ counts)


def project(counts: Any, rows: NDArray[np.float64], low: int) -> NDArray[np.float32]:
    """``counts[:, low:] @ rows.T``, shape ``(pixel, row)``, of a condensed spectrum image."""
    full = np.zeros((counts.shape[1], len(rows)), np.float32)
    full[low : low + rows.shape[1]] = rows.T
    return np.asarray(counts.astype(np.float32) @ full)


def beside(
    data: NDArray[Any], span: tuple[int, int], fwhm_kev: float, recording: Recording, factor: int
) -> NDArray[np.float32]:
    """Background from two windows beside the line's, each half as wide, smoothed."""
    first_in, last_in = span
    width = last_in - first_in
    gap = int(np.ceil(0.5 * fwhm_kev / recording.energy_step_kev))
    half = max(1, width // 2)
    sides = []
    for first, last in ((first_in - gap - half, first_in - gap), (last_in + gap, last_in + gap + half)):
        if first >= 0 and last <= recording.channels:
            sides.append(data[..., first:last].sum(axis=-1, dtype=np.float64) / (last - first))
    if not sides:
        raise InputError(
            f"{recording.path} has no room for windows beside channels {first_in} to {last_in}; use "
            "maps.background = 'fit'"
        )
    level = binned(sum(sides) / len(sides) * width, factor)
    noise = np.sqrt(max(float(level.mean()), 1e-12) * width / (half * len(sides)))
    return smoothed(level, noise)


def smoothed(image: NDArray[Any], noise: float) -> NDArray[np.float32]:
    """Not negative, and smoothed by a Gaussian until the noise is an eighth of the mean; the total stays."""
    from scipy.ndimage import gaussian_filter

    total = float(image.sum())
    if total <= 0:
        return np.zeros(image.shape, np.float32)
    mean = total / image.size
    # white noise falls by 2 sqrt(pi) sigma
    sigma = min(SMOOTHED_TO * noise / mean / (2 * np.sqrt(np.pi)), min(image.shape) / 8)
    smooth = gaussian_filter(np.asarray(image, np.float64), sigma, mode="reflect", truncate=3) if sigma > 0.3 else image
    smooth = np.maximum(smooth, 0)
    return np.asarray(smooth * (total / max(float(smooth.sum()), 1e-300)), dtype=np.float32)
