"""From spectrum images to one map of counts for each X-ray line, with what is expected in it that is not the line.

A map holds the plain sum of the counts in a window about the line: whole numbers, Poisson distributed. Nothing is
subtracted from them. Continuum and lines of others are fitted in each tilt's summed spectrum (`recon.eds.spectrum`),
spread over the pixels as smoothed estimates of each component tell, and go with the counts as `background_maps`, so
that they are a term of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.eds.child_process import Apart, CrashedError
from recon.eds.lines import Line, Resolution, find_line
from recon.eds.one_image import _of_file, _one, _Tilt
from recon.eds.read import SpectrumImage, find_spectra
from recon.eds.recording import Recording, agree
from recon.eds.signals import spectrum_images
from recon.eds.spectrum import Spectrum
from recon.eds.tilts import conflicts, find_tilts, given_tilts
from recon.eds.windows import Options, Window
from recon.errors import InputError
from recon.io.signals import is_signal
from recon.series.checks import MIN_TILTS, check_tilts
from recon.series.counts import count_doubts
from recon.series.tilt_series import TiltSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.io.tilts import TiltSpec


@dataclass(frozen=True, eq=False)
class LineMaps:
    """What was found in a series of spectrum images, tilts ascending.

    Attributes:
        counts: map's name to ``(tilt, y, x)`` uint32, or float32 if the files hold no whole numbers.
        background: map's name to ``(tilt, y, x)`` float32: counts in the window that are not the line's.
        tilts_deg, tilt_sources: of each tilt.
        pixel_size_nm: after binning; None if unknown.
        recordings: of each file.
        spectra: each tilt's fit.
        windows: line to its window in each file.
        resolution: that was used.
        warnings: one line each, for the user.
        binning: recorded pixels added up along each edge of a map's.
        image: ``(tilt, y, x)`` in the pixels of the maps, if one was asked for.
    """

    counts: dict[str, NDArray[Any]]
    background: dict[str, NDArray[np.float32]]
    tilts_deg: NDArray[np.float64]
    tilt_sources: tuple[str, ...]
    pixel_size_nm: float | None
    recordings: tuple[Recording, ...]
    spectra: tuple[Spectrum, ...]
    windows: dict[str, tuple[Window, ...]]
    resolution: Resolution
    warnings: tuple[str, ...]
    history: tuple[str, ...] = field(default=())
    binning: int = 1
    image: NDArray[np.float32] | None = None

    def series(self, *, tilt_axis: str = "y", pixel_size_nm: float | None = None) -> TiltSeries:
        """The maps as a `TiltSeries`, background included; `pixel_size_nm` is that of the recorded pixels."""
        size = self.pixel_size_nm if pixel_size_nm is None else pixel_size_nm * self.binning
        if size is None:
            raise InputError(
                f"{self.recordings[0].path} does not say how large its pixels are; give pixel_size_nm, the edge of a "
                "recorded pixel in nm"
            )
        turn: Callable[[Any], Any] = (lambda a: a.swapaxes(1, 2)) if tilt_axis == "x" else (lambda a: a)
        where = {n: f"of {len(self.recordings)} spectrum images" for n in self.counts}
        series = TiltSeries.create({n: turn(c) for n, c in self.counts.items()}, self.tilts_deg, size, where=where)
        below = np.ascontiguousarray(np.stack([turn(self.background[n]) for n in self.counts]), dtype=np.float32)
        note = self.history[0] if self.history else "maps from spectrum images"
        if tilt_axis == "x":
            note += "; rows and columns swapped, since the tilt axis was x"
        files = tuple(r.path.name for r in self.recordings)
        odd = tuple(d for n, c in self.counts.items() for d in count_doubts(c, n, self.tilts_deg))
        image = None if self.image is None else np.ascontiguousarray(turn(self.image))
        series = series.evolve(origins=(files,) * len(self.counts), remarks=(*series.remarks, *odd), image=image)
        return series.evolve(note, background_maps=below if below.any() else None, tilt_axis=tilt_axis)


def line_maps(
    source: str | Path | Sequence[str | Path] | Iterable[SpectrumImage],
    lines: Sequence[str] | str,
    *,
    tilts: TiltSpec | None = None,
    options: Options | Mapping[str, Any] | None = None,
    image: str | None = None,
    base: str | Path = ".",
    log: Callable[[str], None] | None = None,
) -> LineMaps:
    """Maps of some lines from a folder, a pattern, a list of files, HyperSpy signals or values of `SpectrumImage`.

    One spectrum image is in memory at a time.

    Args:
        source: see `find_spectra`; or signals ``(y, x | energy)``, one a tilt.
        lines: such as ``["Fe_Ka", "Si_Ka"]``.
        tilts: degrees, in the order of the files; by default what `find_tilts` finds.
        options: see `recon.eds.windows.Options`; a dictionary of its fields, such as ``{"bin": 4}``, serves as well.
        image: name of an image in the same files, such as ``"HAADF"``, to align the maps on.
        base: folder that relative paths start from.
        log: called with a line for each file.

    Raises:
        InputError: a file or a line that does not serve; the message names it and the remedy.
    """
    options = Options.of(options)
    options.check()
    lines = [lines] if isinstance(lines, str) else lines
    wanted = [find_line(n) for n in lines]
    if not wanted:
        raise InputError('no lines were named; give lines = ["Fe_Ka", ...]')
    if len({w.name for w in wanted}) < len(wanted):
        raise InputError(f"lines names one twice ({', '.join(lines)}); leave one out")
    files = _paths(source, base)
    if files is not None:  # before minutes of reading
        _check_number(files)
        if tilts is not None:
            given_tilts(files, tilts, base)
    recordings: list[Recording] = []
    parts: list[_Tilt] = []
    names: tuple[str, ...] | None = None
    for recording, found, part in _tilts(source if files is None else files, wanted, options, image):
        recordings.append(recording)
        agree(recordings)
        if names is not None and found != names:
            raise InputError(
                f"{recording.path} has the detectors {', '.join(found)}, {recordings[0].path} has "
                f"{', '.join(names)}; use maps.detectors = 'sum'"
            )
        names = found
        parts.append(part)
        if log is not None:
            log(f"{recording.path.name}: {int(part.spectrum.counts.sum())} counts")
    if not recordings:
        raise InputError("there are no spectrum images; name a folder or a pattern")
    _check_number([r.path for r in recordings])
    angles, sources = find_tilts(recordings, tilts, base)
    told = conflicts(recordings, angles, "the tilts given" if tilts is not None else sources[0])
    order = np.argsort(angles, kind="stable")
    check_tilts(angles)
    return _gather([parts[i] for i in order], [recordings[i] for i in order], angles[order],
                   [sources[i] for i in order], wanted, options, told)  # fmt: skip


def _paths(source: Any, base: str | Path) -> list[Path] | None:
    """The files that a source names; None where it holds spectrum images itself."""
    if isinstance(source, str | Path):
        return find_spectra(source, base)
    if isinstance(source, list | tuple) and source and all(isinstance(i, str | Path) for i in source):
        return [Path(base) / Path(i).expanduser() for i in source]
    return None


def _check_number(paths: Sequence[Path]) -> None:
    if len(paths) < MIN_TILTS:
        raise InputError(
            f"{paths[0]} and the files with it are {len(paths)} spectrum images; a tilt series needs at least "
            f"{MIN_TILTS}, so name a folder or a pattern that holds them all"
        )


def _tilts(
    source: Any, wanted: list[Line], options: Options, image: str | None
) -> Iterator[tuple[Recording, tuple[str, ...], _Tilt]]:
    """What is kept of each spectrum image, of files or of images in memory: recording, names of detectors, maps."""
    files = isinstance(source, list) and all(isinstance(i, Path) for i in source)
    if not files:
        if image is not None:
            raise InputError("signals hold no image beside the spectra; give one with recon.read, or align on maps")
        for one in spectrum_images([source] if is_signal(source) else source):
            yield one.recording, one.parts, _one(one, wanted, options)
        return
    with Apart() as reader:
        for path in source:
            try:
                yield reader.call(_of_file, path, wanted, options, image)
            except CrashedError as exc:
                raise InputError(
                    f"{path} is damaged, the library that reads it crashes ({exc}); copy or export it again"
                ) from exc


# ---------------------------------------------------------------- the series


def _gather(
    parts: list[_Tilt],
    recordings: list[Recording],
    angles: NDArray[np.float64],
    sources: list[str],
    wanted: list[Line],
    options: Options,
    told: list[str],
) -> LineMaps:
    from recon.eds.findings import findings

    names = list(parts[0].counts)
    counts = {n: np.stack([p.counts[n] for p in parts]) for n in names}
    background = {n: np.stack([p.background[n] for p in parts]) for n in names}
    pixel = next((r.pixel_size_nm for r in recordings if r.pixel_size_nm), None)
    warnings = told + findings(
        [p.spectrum for p in parts], [p.shares for p in parts], wanted, angles, recordings, sources,
        [p.resolution for p in parts],
    )  # fmt: skip
    note = (
        f"maps of {', '.join(w.name for w in wanted)} from {len(parts)} spectrum images ({recordings[0].path.name} ... "
        f"{recordings[-1].path.name}); tilts from {', '.join(dict.fromkeys(sources))}; window {options.window:g} FWHM, "
        f"background {options.background}, {options.bin} x {options.bin} pixels added up"
    )
    return LineMaps(
        counts, background, angles, tuple(sources), None if pixel is None else pixel * options.bin,
        tuple(recordings), tuple(p.spectrum for p in parts),
        {w.name: tuple(p.windows[w.name] for p in parts) for w in wanted}, parts[0].resolution,
        tuple(warnings), (note,), options.bin,
        None if parts[0].image is None else np.stack([p.image for p in parts if p.image is not None]),
    )  # fmt: skip
