"""What a wrong job file gets: one line with file, line number and remedy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from job_text import INPUT, message, run
from job_text import folder as folder  # a fixture

from recon.errors import JobError
from recon.job.file import load_job

R = INPUT + "[reconstruct]\n"


A = INPUT + "[align]\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # names
        (R + "strenght = 3", "job.toml:5: reconstruct.strenght: unknown key; did you mean 'strength'?"),
        (R + "\n# strenght\n\nStrength = 3", "job.toml:8: reconstruct.Strength: unknown key; did you mean 'strength'?"),
        (R + "zzz = 3", "job.toml:5: reconstruct.zzz: unknown key; use method, data_term, "),
        (A + "strength = 3", "job.toml:5: align.strength: unknown key; it belongs in [reconstruct]"),
        ("strength = 3\n" + INPUT, "job.toml:1: strength: unknown key; it belongs in [reconstruct]"),
        (INPUT + "[reconstrct]\n", "job.toml:4: reconstrct: unknown key; did you mean 'reconstruct'?"),
        (INPUT + "[normalize]\n", "job.toml:4: normalize: unknown key; did you mean 'normalise'?"),
        ('prest = "longley2018"\n' + INPUT, "job.toml:1: prest: unknown key; did you mean 'preset'?"),
        ('[input]\nmap = { Co = "Co.tif" }', "job.toml:2: input.map: unknown key; did you mean 'maps'?"),
        ("reconstruct = { tolerence = 1 }\n" + INPUT, "job.toml:1: reconstruct.tolerence: unknown key; did you mean"),
        (INPUT + "\n[a]\n[align]\nb = 1", "job.toml:5: a: unknown key; "),
        # choices
        (
            'preset = "longly"\n' + INPUT,
            "job.toml:1: preset: 'longly' is not one of its values; did you mean 'longley2",
        ),
        (R + 'method = "tgvv"', "job.toml:5: reconstruct.method: 'tgvv' is not one of its values; did you mean 'tgv'?"),
        (R + 'method = "qq"', "job.toml:5: reconstruct.method: 'qq' is not one of its values; use tgv, tv, none, sirt"),
        (R + "method = 3", "job.toml:5: reconstruct.method: 3 is not one of its values; use tgv, tv, none, sirt, fbp"),
        (R + 'data_term = "poison"', "job.toml:5: reconstruct.data_term: 'poison' is not one of its values; did you"),
        (R + 'projector = "cuda"', "job.toml:5: reconstruct.projector: 'cuda' is not one of its values; use auto, "),
        (INPUT + 'tilt_axis = "z"', "job.toml:4: input.tilt_axis: 'z' is not one of its values; use y, x"),
        (INPUT + '[normalise]\nmethod = "total"', "job.toml:5: normalise.method: 'total' is not one of its values; "),
        (A + 'method = "xcorr"', "job.toml:5: align.method: 'xcorr' is not one of its values; "),
        (
            INPUT + '[output]\nformats = ["tif"]',
            "job.toml:5: output.formats: names 'tif', which is unknown; did you me",
        ),
        (
            INPUT + '[output]\nformats = ["hspi"]',
            "job.toml:5: output.formats: names 'hspi', which is unknown; did you m",
        ),
        (
            INPUT + "[output]\nformats = []",
            "job.toml:5: output.formats: is empty; use tiff, mrc, ome-zarr, ome-zarr-0.4, hspy, emd, vti",
        ),
        (INPUT + "[output]\nformats = []", "job.toml:5: output.formats: is empty; use tiff, mrc"),
        # types and limits
        (R + 'strength = "strong"', "job.toml:5: reconstruct.strength: must be 'auto', a positive number, or a table"),
        (R + "strength = 0", "job.toml:5: reconstruct.strength: is 0; it must be 'auto', a positive number, or a"),
        (R + f"strength = 1{'0' * 400}", "job.toml:5: reconstruct.strength: is 1000"),
        (R + f"tolerance = 1{'0' * 400}", "job.toml:5: reconstruct.tolerance: must be a number, not 1000"),
        (R + f"max_iterations = 1{'0' * 400}", "job.toml:5: reconstruct.max_iterations: is 1000"),
        (R + "strength = true", "job.toml:5: reconstruct.strength: must be 'auto', a positive number, or a table"),
        (R + "strength = nan", "job.toml:5: reconstruct.strength: is nan; it must be"),
        (R + "strength = { Co = -1, Zn = 1 }", "job.toml:5: reconstruct.strength: of Co is -1; it must be a positive"),
        (R + "tolerance = 1", "job.toml:5: reconstruct.tolerance: is 1; it must be above 0 and below 1, such as 1e-2"),
        (R + "tolerance = 0.0", "job.toml:5: reconstruct.tolerance: is 0; it must be above 0"),
        (R + "tolerance = nan", "job.toml:5: reconstruct.tolerance: is nan; it must be above 0"),
        (R + 'tolerance = "1e-2"', "job.toml:5: reconstruct.tolerance: must be a number, not '1e-2'"),
        (R + "tolerance = 1979-05-27", "job.toml:5: reconstruct.tolerance: must be a number, not a date or time"),
        (R + "max_iterations = 0", "job.toml:5: reconstruct.max_iterations: is 0; it must be from 1 to 1000000"),
        (R + "max_iterations = 1_000_001", "job.toml:5: reconstruct.max_iterations: is 1000001; it must be from 1 to "),
        (R + "max_iterations = 100.0", "job.toml:5: reconstruct.max_iterations: must be a whole number, not 100"),
        (R + "max_iterations = true", "job.toml:5: reconstruct.max_iterations: must be a whole number, not true"),
        (R + "thickness = 0", "job.toml:5: reconstruct.thickness: is 0; it must be at least 1 voxel"),
        (
            R + "thickness = 4.5",
            "job.toml:5: reconstruct.thickness: must be 'auto' or a whole number of voxels, not 4.5",
        ),
        (INPUT + "pixel_size_nm = 0", "job.toml:4: input.pixel_size_nm: is 0; it must be a positive number of nano"),
        (INPUT + 'pixel_size_nm = "5"', "job.toml:4: input.pixel_size_nm: must be a positive number of nanometres, n"),
        (INPUT + "scaled = 1", "job.toml:4: input.scaled: must be true or false, not 1"),
        (
            INPUT + "background = -1",
            "job.toml:4: input.background: is -1; it must be 'auto', a number of counts per pi",
        ),
        (INPUT + "background = [1, 2]", "job.toml:4: input.background: must be 'auto', a number of counts per pixel,"),
        (
            INPUT + "background = {}",
            "job.toml:4: input.background: must be 'auto', a number of counts per pixel, 0 or ",
        ),
        (INPUT + '[mask]\napply = "yes"', "job.toml:5: mask.apply: must be true or false, not 'yes'"),
        (INPUT + '[output]\nformats = "tiff"', "job.toml:5: output.formats: must be a list in [ ], not 'tiff'"),
        (A + 'reference = "Co"', "job.toml:5: align.reference: must be a list in [ ], not 'Co'"),
        (A + "reference = [1]", "job.toml:5: align.reference: entry 1 must be text in quotes, not 1"),
        ("input = 3", "job.toml:1: input: must be a table, with its keys below [name], not 3"),
        ("reconstruct = 3\n" + INPUT, "job.toml:1: reconstruct: must be a table"),
        ("[[align]]\n" + INPUT, "job.toml:1: align: must be a table, with its keys below [name], not a list"),
        # elements and files
        (
            A + 'reference = ["Co", "Zm"]',
            "job.toml:5: align.reference: element 'Zm' is not in input.maps; did you mean",
        ),
        (A + "reference = []", "job.toml:5: align.reference: is empty; name some of Co, Zn, or leave it out for all"),
        (R + "strength = { Co = 1, Fe = 2 }", "job.toml:5: reconstruct.strength.Fe: element 'Fe' is not in input.maps"),
        (R + "strength = { Co = 1 }", "job.toml:5: reconstruct.strength: has no value for element 'Zn'; give one for"),
        (INPUT + "[input.background]\nCo = 1\nFe = 2", "job.toml:6: input.background.Fe: element 'Fe' is not in "),
        (A + 'file = "no.json"', "job.toml:5: align.file: no.json does not exist; paths are relative to the job file"),
        (A + 'file = "maps"', "job.toml:5: align.file: maps is a folder; name a file"),
        (A + "file = 3", "job.toml:5: align.file: must be the path of a file, not 3"),
        (
            A + 'method = "none"\nfile = "alignment.json"',
            "job.toml:6: align.file: is given, but align.method is 'none'",
        ),
        (INPUT + '[mask]\nmethod = "none"\napply = true', "job.toml:6: mask.apply: is true, but mask.method is 'none'"),
    ],
)
def test_one_wrong_thing(folder, text, expected):
    assert message(text).startswith(expected)


T = '\ntilts = "tilts.rawtlt"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "job.toml: input: is missing; begin the file with [input]"),
        ("[input]" + T, "job.toml:1: input.maps: is missing; add maps ="),
        ('[input]\nspectra = "tilt_*.bcf"', "job.toml:1: input.lines: is missing; add lines ="),
        ('[input]\nspectra = "a"\nlines = []', "job.toml:3: input.lines: is empty; name lines"),
        ('[input]\nspectra = "a"\nlines = ["Fe_Ka", "Fe_Ka"]', "job.toml:3: input.lines: names one line twice"),
        ('[input]\nspectra = 3\nlines = ["Fe_Ka"]', "job.toml:2: input.spectra: must be a folder, a pattern"),
        ('[input]\nspectra = ["no.bcf"]\nlines = ["Fe_Ka"]', "job.toml:2: input.spectra: no.bcf does not exist"),
        (
            '[input]\nspectra = "a"\nlines = ["Fe_Ka"]\nscaled = true',
            "job.toml:4: input.scaled: is true, but maps from",
        ),
        ('[input]\nspectra = "a"\nlines = ["Fe_Ka"]\nmaps.Co = "Co.tif"', "job.toml:2: input.spectra: is given beside"),
        (INPUT + 'lines = ["Fe_Ka"]', "job.toml:4: input.lines: are for spectra, not for maps"),
        (INPUT + "[maps]\nbin = 2", "job.toml:4: maps: is for spectra; name the maps in [input] maps"),
        ('[input]\nspectra = "a"\nlines = ["Fe_Ka"]\n[maps]\nbin = 0', "job.toml:5: maps.bin: is 0; it must be from 1"),
        (
            '[input]\nspectra = "a"\nlines = ["Fe_Ka"]\n[maps]\nwindw = 1',
            "job.toml:5: maps.windw: unknown key; did you",
        ),
        (
            '[input]\nspectra = "a"\nlines = ["Fe_Ka"]\n[align]\nreference = ["Fe"]',
            "job.toml:5: align.reference: element",
        ),
        ('[input]\nlines = ["Fe_Ka"]', "job.toml:2: input.lines: need spectra to come from; add spectra ="),
        ('[input]\nmaps = { Co = "Co.tiff" }' + T, "job.toml:2: input.maps.Co: Co.tiff does not exist; paths are rela"),
        ('[input.maps]\nCo = "Co.tif"\n"Z n" = "Co.tif"', "job.toml:3: input.maps.Z n: cannot name a file of results"),
        ('[input]\nmaps.mask = "Co.tif"' + T, "job.toml:2: input.maps.mask: cannot name an element, a run writes a fi"),
        ('[input]\nmaps."../Co" = "Co.tif"' + T, "job.toml:2: input.maps.../Co: cannot name a file of results"),
        ('[input]\nmaps = { "a\\nb" = "Co.tif" }' + T, "job.toml:2: input.maps.a b: cannot name a file of results"),
        (
            '[input]\nmaps = { Co = "Co.tif", CO = "Co.tif" }' + T,
            "job.toml:2: input.maps: names Co and CO, which differ",
        ),
        ("[input]\nmaps = {}" + T, "job.toml:2: input.maps: is empty; name at least one map"),
        ("[input]\nmaps = { Co = 3 }" + T, "job.toml:2: input.maps.Co: must be the path of a file, not 3"),
        ('[input]\nmaps = { Co = "" }' + T, "job.toml:2: input.maps.Co: must be the path of a file, not ''"),
        ('[input]\nmaps = { Co = "a\\u0000" }' + T, "job.toml:2: input.maps.Co: must be the path of a file"),
        (f'[input]\nmaps = {{ Co = "{"n" * 300}" }}' + T, "job.toml:2: input.maps.Co: nnn"),
        ('[input]\nmaps = "Co.tif"' + T, "job.toml:2: input.maps: must be a table, such as { Co = "),
        ('[input]\nmaps = ["Co.tif"]' + T, "job.toml:2: input.maps: must be a table, such as { Co = "),
        ('[input]\nmaps.Co = "Co.tif"\ntilts = "no.tlt"', "job.toml:3: input.tilts: no.tlt does not exist"),
        (
            '[input]\nmaps.Co = "Co.tif"\ntilts = 3',
            "job.toml:3: input.tilts: must be a file, a list of degrees or a ra",
        ),
        (
            '[input]\nmaps.Co = "Co.tif"\ntilts = []',
            "job.toml:3: input.tilts: must be a file, a list of degrees or a r",
        ),
        ('[input]\nmaps.Co = "Co.tif"\ntilts = [\n1,\n"a",\n]', "job.toml:3: input.tilts: must be a finite number of"),
        (
            '[input]\nmaps.Co = "Co.tif"\ntilts = { start = 1, stop = 2, stp = 1 }',
            "job.toml:3: input.tilts: has the un",
        ),
        ('[input]\nmaps.Co = "Co.tif"\ntilts = { start = 1, stop = 2 }', "job.toml:3: input.tilts: lacks step; "),
        ('[input]\nmaps.Co = "Co.tif"\ntilts = { start = 1, stop = 2, step = inf }', "job.toml:3: input.tilts: is inf"),
    ],
)
def test_wrong_input_section(folder, text, expected):
    assert message(text).startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1\nb = = 2\n", "job.toml:2: not valid TOML at column 5: invalid value"),
        ('a = 1\nb = "x\n', "job.toml:2: not valid TOML"),
        ('a = """\nx\n', "job.toml:2: not valid TOML: unterminated string"),
        ("a = [1,\n2\n", "job.toml:2: not valid TOML"),
        ("a = 1\na = 2\n", "job.toml:2: not valid TOML"),
        (INPUT + "[input]\n", "job.toml:4: not valid TOML"),
        ("{'a': 1}", "job.toml:1: not valid TOML"),
        (f"a = 1{'0' * 5000}", "job.toml:1: not valid TOML"),
        ("a = " + "[" * 5000, "job.toml:1: not valid TOML"),
        (b"\xff\xfe\x00", "job.toml is not text in UTF-8"),
    ],
)
def test_not_toml(folder, text, expected):
    assert message(text).startswith(expected)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("a = \u201cx\u201d\n", "invalid value; put text between straight quotes"),
        ("a\u00a0= 1\n", "it holds a character that only looks like a blank; type the line anew"),
        ("a = 5,0\n", "; write a decimal point, not a comma"),
        ("a = True\n", "; write true or false, in small letters"),
        ("a = 5.0 nm\n", "; write the number alone, without a unit"),
        ("a = Co.tif\n", "; put text between double quotes"),
        ("input:\n  maps: x\n", "; write key = value, under a heading in [ ]"),
    ],
)
def test_what_toml_does_not_take_has_a_remedy(folder, text, remedy):
    assert remedy in message(text)


def test_wrong_paths(folder):
    for path, says in (
        ("no.toml", "no.toml does not exist"),
        ("maps", "maps is a folder"),
        ("a\0", "cannot be opened"),
    ):
        with pytest.raises(JobError, match=says) as caught:
            load_job(path)
        assert "\n" not in str(caught.value)


def test_the_first_of_several_errors_is_told(folder):
    text = R + 'tolerance = 3\nmethod = "x"\n[mask]\napply = 1\n'
    assert message(text).startswith("job.toml:5: reconstruct.tolerance:")
    assert message(text + "aply = 1\n").startswith("job.toml:9: mask.aply:")  # an unknown key may explain the rest


def test_no_permission():
    """Also where the tests run as root: the child gives that up."""
    import tempfile

    code = (
        "import os, sys\nfrom recon.job.file import load_job\nfrom recon.errors import JobError\n"
        "os.getuid() or os.setuid(65534)\n"
        "try:\n    load_job(sys.argv[1])\nexcept JobError as exc:\n    print(exc)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder, "job.toml")
        path.write_text(INPUT)
        path.chmod(0)
        assert run(code, str(path)) == f"{path} may not be read; ask for permission to read it\n"
