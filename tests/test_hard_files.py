"""Files that would hang, fill the memory, read other files or collide with results: one line, at once."""

from __future__ import annotations

import os
import resource
import signal
import struct
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from commands import fails, invoke, job
from commands import folder as folder  # a fixture
from commands import stacks as stacks

import recon
from recon.errors import InputError, JobError, ResourceError
from recon.files import reserved
from recon.io import read_stack
from recon.io.formats import declared
from recon.job.file import load_job

posix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with a name here")


@pytest.fixture(autouse=True)
def no_hang():
    """A test that waits for a pipe ends with an error instead."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def late(number, frame):
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


# ---------------------------------------------------------------- pipes and devices

PLACES = {
    "maps": ("Co.tif", {"co": "Co.tif"}),
    "npy": ("pipe.npy", {"co": "pipe.npy"}),
    "tilts": ("tilts.tlt", {"tilts": '"tilts.tlt"'}),
    "mdoc": ("tilts.mdoc", {"tilts": '"tilts.mdoc"'}),
    "bad_pixels": ("bad.tif", {"extra": 'bad_pixels = "bad.tif"\n'}),
    "align": ("a.json", {"extra": '[align]\nfile = "a.json"\n'}),
    "xf": ("a.xf", {"extra": '[align]\nfile = "a.xf"\n'}),
    "exposures": ("e.csv", {"extra": '[normalise]\nexposures = "e.csv"\n'}),
}


@posix
@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize("place", PLACES)
def test_a_pipe_in_place_of_an_input(folder, command, place):
    name, changes = PLACES[place]
    os.mkfifo(name)
    job(**changes)
    said = fails(folder, command, "job.toml")
    assert name in said
    assert "is a pipe or socket, not a regular file" in said


@posix
@pytest.mark.parametrize("command", ["run", "check", "maps"])
def test_a_pipe_in_place_of_the_job(folder, command):
    os.mkfifo("pipe.toml")
    assert "pipe.toml is a pipe" in fails(folder, command, "pipe.toml")


@pytest.mark.skipif(sys.platform == "win32", reason="no devices by name")
def test_a_device_never_ends(folder):
    job(tilts='"/dev/zero"')
    assert "/dev/zero is a device, not a regular file" in fails(folder, "run", "job.toml")
    Path("Co.tif").symlink_to("/dev/zero")
    job(co="Co.tif")
    assert "Co.tif is a device" in fails(folder, "check", "job.toml")
    assert "is a device" in fails(folder, "check", "/dev/zero")


@posix
def test_a_pipe_among_spectra_and_in_a_report(folder):
    for tilt in (1, 2, 3):
        os.mkfifo(f"tilt_{tilt}.hspy")
    Path("job.toml").write_text("[input]\nspectra = 'tilt_*.hspy'\nlines = ['Fe_Ka']\n")
    assert "tilt_1.hspy is a pipe" in fails(folder, "check", "job.toml")
    Path("out").mkdir()
    os.mkfifo("out/job.json")
    os.mkfifo("out/alignment.json")
    assert "job.json" in fails(folder, "report", "out")


# ---------------------------------------------------------------- what a header declares

HUGE = (2000, 1200, 1000)  # 9.6 GB of float32


def mrc(path):
    head = np.zeros(256, "<i4")
    head[:4] = *HUGE[::-1], 2
    head[52] = struct.unpack("<i", b"MAP ")[0]
    head[53] = 0x4444
    path.write_bytes(head.tobytes() + bytes(4096))


def npz(path):
    import io

    with zipfile.ZipFile(path, "w") as archive:
        stream = io.BytesIO()
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": HUGE})
        archive.writestr("maps.npy", stream.getvalue() + bytes(64))


def npy(path):
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": HUGE})
        stream.write(bytes(64))


def emd(path):
    with h5py.File(path, "w") as file:
        group = file.create_group("data/maps")
        group.attrs["emd_group_type"] = 1
        group.create_dataset("data", HUGE, "f4", chunks=(1, 1200, 1000))
        for i, n in enumerate(HUGE, 1):
            group[f"dim{i}"] = np.arange(n, dtype=np.float32)


def hspy(path):
    with h5py.File(path, "w") as file:
        file.attrs["file_format"], file.attrs["file_format_version"] = "HyperSpy", "3.3"
        file.create_group("Experiments/EDS").create_dataset("data", HUGE, "f4", chunks=(1, 1200, 1000))


def zarr(path):
    path.mkdir()
    (path / "zarr.json").write_text(
        '{"zarr_format":3,"node_type":"group","attributes":{"ome":{"version":"0.5","multiscales":[{"name":"",'
        '"axes":[{"name":"tilt","type":"tilt"},{"name":"y","type":"space"},{"name":"x","type":"space"}],'
        '"datasets":[{"path":"0","coordinateTransformations":[{"type":"scale","scale":[1,1,1]}]}]}]}}}'
    )
    (path / "0").mkdir()
    (path / "0" / "zarr.json").write_text(
        '{"zarr_format":3,"node_type":"array","shape":[2000,1200,1000],"data_type":"float32","chunk_grid":{"name":'
        '"regular","configuration":{"chunk_shape":[1,1200,1000]}},"chunk_key_encoding":{"name":"default",'
        '"configuration":{"separator":"/"}},"fill_value":0,"codecs":[{"name":"bytes","configuration":{"endian":'
        '"little"}}],"attributes":{}}'
    )


def tiff(path):
    tifffile.imwrite(path, np.zeros((4, 4), np.float32), description="x" * 64)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        for name, value in (("ImageLength", 60_000), ("ImageWidth", 40_000), ("RowsPerStrip", 60_000)):
            tag = tif.pages[0].tags[name]
            width = {3: "<H", 4: "<I"}[int(tag.dtype)]
            struct.pack_into(width, data, tag.valueoffset, value)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.mrc", mrc), ("a.npz", npz), ("a.npy", npy), ("a.emd", emd), ("a.hspy", hspy), ("a.ome.zarr", zarr),
     ("a.tif", tiff)],
)  # fmt: skip
def test_a_header_that_declares_gigabytes_takes_none(tmp_path, name, write):
    write(tmp_path / name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as caught:
        read_stack(tmp_path / name)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19  # kB, so half a GB
    said = str(caught.value)
    assert "\n" not in said
    assert name in said


def test_more_than_there_is_memory_for(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", np.ones((3, 400, 400), np.float32))
    monkeypatch.setattr(declared, "SMALL", 1000)
    monkeypatch.setattr(declared, "free_memory", lambda: 2**20)
    with pytest.raises(ResourceError, match="free; bin the maps"):
        read_stack(tmp_path / "a.npz")
    monkeypatch.setattr(declared, "free_memory", lambda: 2**30)
    assert read_stack(tmp_path / "a.npz")[0].shape == (3, 400, 400)


def test_zeros_that_are_compressed_well_are_no_damage(tmp_path):
    maps = np.zeros((12, 700, 700), np.uint16)
    maps[:, 3, 4] = 1
    np.savez_compressed(tmp_path / "a.npz", maps)
    tifffile.imwrite(tmp_path / "a.tif", maps, compression="zlib")
    monkey = declared.SMALL
    try:
        declared.SMALL = 1000
        for name in ("a.npz", "a.tif"):
            assert np.array_equal(read_stack(tmp_path / name)[0], maps)
    finally:
        declared.SMALL = monkey


# ---------------------------------------------------------------- other files


def external(file, target):
    data = file.create_group("data/maps")
    data.attrs["emd_group_type"] = 1
    data.create_dataset("data", (3, 4, 4), "u1", external=[(str(target), 0, 48)])


def virtual(file, target):
    layout = h5py.VirtualLayout((3, 4, 4), "u1")
    layout[:] = h5py.VirtualSource(str(target), "maps", (3, 4, 4))
    file.create_virtual_dataset("data", layout)


def linked(file, target):
    file["data"] = h5py.ExternalLink(str(target), "/maps")


@pytest.mark.parametrize("suffix", [".emd", ".hspy"])
@pytest.mark.parametrize("how", [external, virtual, linked])
def test_hdf5_that_takes_its_values_from_another_file(tmp_path, how, suffix):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["maps"] = np.full((3, 4, 4), 7, np.uint8)
    with h5py.File(tmp_path / f"a{suffix}", "w") as file:
        how(file, secret)
    with pytest.raises(InputError, match=r"from another file .*secret\.h5"):
        read_stack(tmp_path / f"a{suffix}")


# ---------------------------------------------------------------- names that collide


@pytest.mark.parametrize(
    "name",
    ["Co-uncertainty", "Co-aligned", "Zn-Uncertainty", "truth-Co", "mask", "Mask", "job", "alignment", "report",
     "regions", "volumes", "aligned", "alignment-frames", "alignment-shifts", "CON", "nul", "com1"],
)  # fmt: skip
def test_an_element_called_like_a_file_of_results(folder, name):
    Path("job.toml").write_text(f"[input]\nmaps = {{ Co = 'Co.npy', {name} = 'Zn.npy' }}\ntilts = 'tilts.rawtlt'\n")
    said = fails(folder, "check", "job.toml")
    assert "job.toml:2" in said
    assert "cannot name an element" in said
    remedy = said.split("such as ")[1]
    assert reserved(remedy) is None


def test_every_name_that_a_run_writes_is_reserved(folder, undrawn):
    """A run with all outputs on: no file but those of the elements has a name that an element may have."""
    text = job(extra=QUICK).read_text()
    Path("job.toml").write_text(text)
    assert invoke("run", "job.toml").exit_code == 0
    for path in Path("job-recon").iterdir():
        stem = path.name.split(".")[0]
        assert stem in ("Co", "Zn") or reserved(stem) is not None, path.name


QUICK = (
    '[align]\nmethod = "none"\n[reconstruct]\nmethod = "tv"\nstrength = 0.5\nmax_iterations = 3\nuncertainty = 2\n'
    '[output]\naligned = true\nalignment = ["xf", "prexg", "shifts"]\nformats = ["tiff", "ome-zarr"]\n'
)


def test_write_refuses_names_of_its_own_files(tmp_path):
    volume = recon.Volume(np.ones((4, 4, 4), np.float32), 1.0, "Co")
    for name in ("mask", "job", "volumes"):
        with pytest.raises(InputError, match="rename it"):
            recon.write({name: volume}, tmp_path / "out")


# ---------------------------------------------------------------- what cannot go together is refused at once


@pytest.mark.parametrize(
    ("extra", "key"),
    [
        ("scaled = true\n", "input.scaled"),
        ("[align]\nresample = true\n", "align.resample"),
        ("scaled = true\n[reconstruct]\nmethod = 'tv'\n", "input.scaled"),
    ],
)
def test_poisson_statistics_of_values_that_are_no_counts(folder, extra, key):
    job(extra=extra)
    for command in ("check", "run"):
        said = fails(folder, command, "job.toml")
        assert f"reconstruct.data_term: is 'poisson', which is for counts as recorded, but {key} is true" in said
    job(extra=extra + ("" if "[reconstruct]" in extra else "[reconstruct]\n") + "data_term = 'least-squares'\n")
    load_job("job.toml")
    with pytest.raises(JobError, match="least-squares"):
        load_job(job(extra=extra))
