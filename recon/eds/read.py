"""Read one spectrum image from the microscope's own file, through rosettasciio."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.eds import child_process
from recon.eds.recording import Recording, recording_of
from recon.eds.ripple import check_rpl, with_own_keys
from recon.eds.velox import with_stream_times
from recon.errors import InputError, ReconError, ResourceError
from recon.files import matching, natural, reason, unreadable
from recon.io.formats.common import check_file, quiet
from recon.io.formats.digital_micrograph import intensity

if TYPE_CHECKING:
    from numpy.typing import NDArray

# rosettasciio's readers that can hold EDS spectrum images, by the ending of the name
READERS = {
    ".bcf": "bruker",
    ".emd": "emd",
    ".dm3": "digitalmicrograph",
    ".dm4": "digitalmicrograph",
    ".ser": "tia",
    ".emi": "tia",
    ".rpl": "ripple",
    ".hspy": "hspy",
    ".hdf5": "hspy",
    ".zspy": "zspy",
    ".spd": "edax",
    ".pts": "jeol",
    ".asw": "jeol",
    ".elid": "phenom",
    ".prz": "pantarhei",
}
SPECTRUM_TYPES = tuple(READERS)
_NAMES = {"energy", "x-ray energy", "energy loss"}


@dataclass(frozen=True)
class SpectrumImage:
    """One spectrum image.

    Attributes:
        counts: ``(part, y, x, channel)``, the type stored; sums need a wider one.
        parts: name of each part: the detectors, or "" where they are added up.
        recording: how it was recorded.
    """

    counts: NDArray[Any]
    parts: tuple[str, ...]
    recording: Recording


def find_spectra(pattern: str | Path, base: str | Path = ".") -> list[Path]:
    """Files that a pattern names (``tilt_*.bcf``), that a folder holds, or the file itself, in natural order.

    In a folder they must be of one type, so that nothing is picked in silence.

    Raises:
        InputError: there are none, or a folder mixes types.
    """
    full = Path(base) / Path(pattern).expanduser()
    if full.is_dir() and full.suffix.lower() not in READERS:
        found = [p for p in full.iterdir() if p.suffix.lower() in READERS and not p.name.startswith(".")]
        types = sorted({p.suffix.lower() for p in found})
        if not found:
            raise InputError(f"{pattern} holds no spectrum images; they are {', '.join(SPECTRUM_TYPES)}")
        if len(types) > 1:
            raise InputError(f"{pattern} mixes {' and '.join(types)}; name one kind, such as {pattern}/*{types[0]}")
        return sorted(found, key=natural)
    found = matching(pattern, base)
    if not found:
        raise InputError(f"no file matches {pattern}; paths are relative to {Path(base).absolute()}")
    return found


def read_spectra(path: str | Path, *, detectors: str = "sum", frames: tuple[int, int] | None = None) -> SpectrumImage:
    """Read the EDS spectrum image of a file.

    Args:
        path: one of `SPECTRUM_TYPES`.
        frames: ``(first, last + 1)`` of a Velox file, to be added up; all by default.
        detectors: ``"sum"``, or ``"each"`` to keep the detectors of a Velox file apart.

    Raises:
        InputError: not such a file, damaged, cut short, without an EDS spectrum image or calibration.
        ResourceError: it does not fit into memory.
    """
    path = Path(path)
    if path.suffix.lower() not in READERS:
        what = f"type {path.suffix!r}" if path.suffix else "a name without a type"
        raise InputError(f"{path} has {what}, which is unknown; spectrum images are {', '.join(SPECTRUM_TYPES)}")
    if not (path.is_dir() and path.suffix.lower() == ".zspy"):
        check_file(path, "a spectrum image")
    if path.suffix.lower() == ".bcf":
        check_bcf(path)
    if path.suffix.lower() == ".rpl":
        check_rpl(path)
    if path.suffix.lower() in (".hspy", ".hdf5", ".emd"):
        check_hdf5(path)
    options: dict[str, Any] = {}
    velox = path.suffix.lower() == ".emd" and is_velox(path)
    if frames is not None and not velox:
        raise InputError(f"{path} does not keep its frames apart, only Velox files do; leave out frames")
    if velox:
        options = {"select_type": "spectrum_image", "sum_EDS_detectors": detectors != "each"}
    if frames is not None:
        total = velox_frames(path)
        if not 0 <= frames[0] < frames[1] <= (total or frames[1]):
            raise InputError(
                f"{path} has {total} frames; frames must lie in 0 to {total}, not {frames[0]} to {frames[1]}"
            )
        options |= {"first_frame": frames[0], "last_frame": frames[1]}
    signals = signals_of(path, options)
    if path.suffix.lower() == ".rpl":
        signals = [with_own_keys(s) for s in signals]
    image = _image(path, signals)
    return replace(image, recording=with_stream_times(path, image.recording)) if velox else image


def is_velox(path: Path) -> bool:
    """Whether an ``.emd`` is Velox's kind rather than NCEM's."""
    import h5py

    try:
        with h5py.File(path) as file:
            return "Version" in file and "Data" in file
    except Exception:  # HDF5 raises nearly any type on a damaged file; the reader itself will say what is wrong
        return False


def check_bcf(path: Path) -> None:
    """Raise InputError unless a Bruker file is as long as its header says.

    rosettasciio's compiled parser reads past the end of one that was cut short and takes Python down with it.
    Chunk size and number of chunks stand in the header of the container (SFS), which is 280 bytes long.
    """
    import struct

    with path.open("rb") as stream:
        head = stream.read(0x14C)
    size = path.stat().st_size
    if len(head) < 0x14C or head[:8] != b"AAMVHFSS":
        raise InputError(f"{path} is not a Bruker .bcf, or is cut short; copy or export it again")
    chunk, chunks = struct.unpack_from("<I", head, 0x128)[0], struct.unpack_from("<I", head, 0x148)[0]
    if size < 0x118 + chunk * chunks:
        raise InputError(
            f"{path} is cut short or damaged: its header tells of {0x118 + chunk * chunks} bytes, it has {size}; "
            "copy it again"
        )


_WALK = """
import sys, h5py
def see(name, item):
    for key in item.attrs:
        item.attrs[key]
    if isinstance(item, h5py.Dataset):
        item.dtype, item.shape, item.chunks
        if item.nbytes < 2**20:
            item[()]
with h5py.File(sys.argv[1], "r") as file:
    see("", file)
    file.visititems(see)
"""


def check_hdf5(path: Path) -> None:
    """Raise InputError if reading the structure of an HDF5 file makes the HDF5 library crash, seen in a child process.

    On a damaged header the library itself may end Python, which no `except` can catch. A process that is a child for
    that very reason goes without one of its own.
    """
    if child_process.IN_CHILD:
        return
    import subprocess
    import sys

    try:
        done = subprocess.run([sys.executable, "-c", _WALK, str(path)], capture_output=True, timeout=120, check=False)
    except (OSError, subprocess.SubprocessError):
        return  # no child process here, or a very slow disk: then without this check
    if done.returncode not in (0, 1):  # 1 is a Python error, which the reader will put into words
        raise InputError(f"{path} is damaged, the HDF5 library crashes on its structure; copy or export it again")


def velox_frames(path: Path) -> int | None:
    """Number of frames of a Velox file, or None where it does not say."""
    import json

    import h5py

    try:
        with h5py.File(path) as file:
            group = next(iter(file["Data/SpectrumImage"].values()))
            return int(json.loads(group["SpectrumImageSettings"][0])["endFramePosition"])
    except Exception:  # as in is_velox
        return None


def signals_of(path: Path, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Everything that a file holds, as rosettasciio gives it with some of its options; nothing is printed."""
    try:
        reader = importlib.import_module(f"rsciio.{READERS[path.suffix.lower()]}").file_reader
        with warnings.catch_warnings(), quiet("rsciio"), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return list(reader(str(path), **options))
    except ReconError:
        raise
    except MemoryError as exc:
        raise ResourceError(f"{path} does not fit into memory, or is damaged; bin it in the microscope's program, "
                            "or use a larger machine") from exc  # fmt: skip
    except Exception as exc:  # a damaged file makes a library raise nearly any type
        what = f"cannot be read, it is damaged, cut short or not what its name says ({reason(exc)}); "
        raise unreadable(path, exc, what + "copy or export it again") from exc


def _image(path: Path, signals: list[dict[str, Any]]) -> SpectrumImage:
    """The spectrum image among a file's signals; several only where they are detectors of one image."""
    found = []
    for signal in signals:
        axes = axes_of(signal)
        if axes is not None:
            found.append((signal, *axes))
    if not found:
        held = ", ".join(describe(s) for s in signals[:6])
        other = f", but {held}" if held else " nor anything else that can be read"
        raise InputError(f"{path} holds no EDS spectrum image{other}; name files with a spectrum in every pixel")
    shapes = {s["data"].shape for s, _, _ in found}
    if len(shapes) > 1:
        raise InputError(f"{path} holds {len(found)} spectrum images of different shapes; export one to a file")
    if len(found) > 1 and READERS.get(path.suffix.lower()) != "emd":
        raise InputError(f"{path} holds {len(found)} spectrum images; export the one to use to a file of its own")
    first, energy, nav = found[0]
    if path.suffix.lower() in (".dm3", ".dm4") and (meant := intensity(first)) != (0.0, 1.0):
        raise InputError(
            f"{path} says that its numbers mean (stored - {meant[0]:g}) x {meant[1]:g}, and which of both are counts "
            "is not known; set the intensity calibration to origin 0 and scale 1 in the program that wrote it"
        )
    recording = recording_of(path, first, energy, nav)
    stacks, names = [], []
    for number, (signal, e, n) in enumerate(found):
        data = np.asarray(signal["data"])
        data = data.transpose(*n, e)
        check_counts(path, data)
        stacks.append(data)
        binary = (signal.get("original_metadata") or {}).get("BinaryResult")
        name = binary.get("Detector") if isinstance(binary, dict) else None
        names.append(str(name or f"detector{number + 1}"))
    if len(stacks) == 1:
        return SpectrumImage(stacks[0][None], ("",), recording)
    if len(set(names)) < len(names):
        names = [f"detector{i + 1}" for i in range(len(names))]
    return SpectrumImage(np.stack(stacks), tuple(names), recording)


def axes_of(signal: dict[str, Any]) -> tuple[int, tuple[int, int]] | None:
    """Numbers of the energy axis and of ``(y, x)``, if the signal is an EDS spectrum image."""
    axes, data = signal["axes"], signal["data"]
    kind = str(((signal.get("metadata") or {}).get("Signal") or {}).get("signal_type", ""))
    if data.ndim != 3 or len(axes) != 3 or kind == "EELS":
        return None
    energy = [i for i, a in enumerate(axes) if str(a.get("units") or "").strip().casefold() in ("ev", "kev", "mev")]
    if not energy and kind.startswith("EDS"):  # not calibrated: said by whoever asks for its energies
        energy = [i for i, a in enumerate(axes) if not a.get("navigate", True)]
    if len(energy) != 1:
        return None
    y, x = (i for i in range(3) if i != energy[0])
    return energy[0], (y, x)


def describe(signal: dict[str, Any]) -> str:
    """A signal in a few words: title and shape."""
    title = ((signal.get("metadata") or {}).get("General") or {}).get("title") or "an array"
    return f"{title} {' x '.join(map(str, np.shape(signal['data'])))}"


def check_counts(path: Path, data: NDArray[Any]) -> None:
    """Raise InputError unless an array can be counts."""
    if data.dtype.kind not in "uif":
        raise InputError(f"{path} holds values of type {data.dtype}; a spectrum image holds counts")
    if 0 in data.shape:
        raise InputError(f"{path} holds an empty spectrum image of shape {data.shape}; record or export it again")
    if data.dtype.kind != "u" and data.size:
        low = data.min()
        if not (np.isfinite(low) and low >= 0 and np.isfinite(data.max())):
            raise InputError(f"{path} holds counts that are negative or not finite; export raw counts")
