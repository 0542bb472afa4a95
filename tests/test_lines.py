"""X-ray lines: against exspy's table and published widths."""

from __future__ import annotations

import eds
import pytest

from recon.eds.lines import Resolution, families, find_line, lines_of
from recon.errors import InputError

# ---------------------------------------------------------------- lines


def test_energies_and_weights_agree_with_exspy():
    """HyperSpy's table is compiled from other sources; 15 eV is a tenth of a detector's resolution."""
    table = pytest.importorskip("exspy.material").elements
    for element in ("C", "O", "Mg", "Si", "Ca", "Ti", "Fe", "Co", "Cu", "Zn", "Ag", "Pt", "Au", "Pb"):
        theirs = table[element].Atomic_properties.Xray_lines.as_dictionary()
        for symbol in ("Ka", "Kb", "La", "Ma"):
            if (
                symbol not in theirs
                or f"{element}_{symbol}" not in lines_of(element)
                or not 0.2 < theirs[symbol]["energy (keV)"] < 40
            ):
                continue
            line = find_line(f"{element}_{symbol}")
            assert line.energy_kev == pytest.approx(theirs[symbol]["energy (keV)"], abs=0.015, rel=5e-3), line.name
        if element in ("Fe", "Co", "Cu", "Zn"):
            ratio = find_line(f"{element}_Kb").share / find_line(f"{element}_Ka").share
            assert ratio == pytest.approx(theirs["Kb"]["weight"], rel=0.2)
        if element in ("Pt", "Au"):  # between subshells the weights are estimates
            assert find_line(f"{element}_Mb").share / find_line(f"{element}_Ma").share == pytest.approx(
                theirs["Mb"]["weight"], rel=0.25
            )


def test_a_family_adds_up_to_one():
    for element in ("C", "Fe", "Ag", "Pt", "U"):
        for family in families(element):
            assert sum(family.weights) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Fe_Kb1", "did you mean 'Fe_Kb'"),
        ("fe_ka", "did you mean 'Fe_Ka'"),
        ("C_La", "did you mean 'C_Ka'"),
        ("Fe", "did you mean 'Fe_Ka' or 'Fe_La'"),
        ("Xx_Ka", "such as Fe_Ka"),
        ("", "such as Fe_Ka"),
    ],
)
def test_an_unknown_line(name, says):
    with pytest.raises(InputError) as caught:
        find_line(name)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("energy", [0.277, 1.74, 5.8988, 9.44])
def test_resolution_follows_fiori_and_newbury(energy):
    ours = Resolution.from_mnka(130, "").fwhm(energy)
    assert ours == pytest.approx(2.3548 * eds.sigma(energy), rel=0.03)
