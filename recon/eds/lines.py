"""X-ray lines: names, energies and weights from xraydb's table, and the detector's resolution.

A line is named as in HyperSpy: element, underscore, Siegbahn symbol, such as ``Fe_Ka`` or ``Pt_La``.
"""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from dataclasses import dataclass

from recon.errors import InputError

MNKA_KEV = 5.8988
FWHM = 2 * math.sqrt(2 * math.log(2))
TYPICAL_RESOLUTION_EV = 130.0  # of a silicon drift detector, FWHM at Mn K-alpha
_SLOPE_KEV = (
    2.5e-3  # growth of FWHM^2 with energy in silicon: Fiori and Newbury, Scanning Electron Microsc. 1, 401 (1978)
)
_OCCUPANCY = {"K": 2, "L1": 2, "L2": 2, "L3": 4, "M1": 2, "M2": 2, "M3": 4, "M4": 4, "M5": 6}
# the strongest transition of each series; others follow it with their weights
_GROUPS = {
    "Ka": ("Ka1", "Ka2", "Ka3"),
    "Kb": ("Kb1", "Kb3", "Kb5", "Kb2", "Kb4"),
    "La": ("La1", "La2"),
    "Lb": ("Lb1", "Lb3", "Lb4", "Lb6", "Lb2,15", "Lb2"),
    "Lg": ("Lg1", "Lg2", "Lg3", "Lg6"),
    "Ll": ("Ll",),
    "Ln": ("Ln",),
    "Ma": ("Ma",),
    "Mb": ("Mb",),
    "Mg": ("Mg",),
    "Mz": ("Mz",),
}
_NAME = re.compile(r"([A-Z][a-z]?)_([KLM][a-z])")
_GREEK = {  # and the words for them, as Siegbahn's symbols are written
    "alpha": "a", "beta": "b", "gamma": "g", "zeta": "z", "eta": "n", "\u03b1": "a", "\u03b2": "b", "\u03b3": "g",
    "\u03b6": "z", "\u03b7": "n", "\u2113": "l",
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """The lines that appear together with fixed weights: one element, one shell.

    Attributes:
        element: symbol.
        shell: "K", "L" or "M".
        energies_kev: of each transition.
        weights: of each, the whole family adding up to 1.
        labels: Siegbahn name of each.
    """

    element: str
    shell: str
    energies_kev: tuple[float, ...]
    weights: tuple[float, ...]
    labels: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.element}_{self.shell}"

    def strongest(self) -> float:
        """Energy of the line that is seen first, keV."""
        return self.energies_kev[max(range(len(self.weights)), key=self.weights.__getitem__)]


@dataclass(frozen=True)
class Line:
    """One line that a map is made from, such as Fe_Ka.

    Attributes:
        name: ``Fe_Ka``.
        energy_kev: mean of its transitions, by weight.
        family: the family it belongs to.
        share: its part of the family's counts.
    """

    name: str
    energy_kev: float
    family: Family
    share: float


@dataclass(frozen=True)
class Resolution:
    """Width of a line: ``sigma^2 = noise + slope * E``, keV^2 and keV.

    Attributes:
        source: where it comes from, for the user.
    """

    noise: float
    slope: float
    source: str

    @classmethod
    def from_mnka(cls, fwhm_ev: float, source: str) -> Resolution:
        """From the FWHM at Mn K-alpha: ``FWHM^2`` grows by 2.5 eV per eV in silicon (Fiori and Newbury, 1978)."""
        slope = _SLOPE_KEV / FWHM**2
        noise = (fwhm_ev * 1e-3 / FWHM) ** 2 - slope * MNKA_KEV
        if noise < 0:  # better than silicon allows: the statistics alone
            return cls(0.0, (fwhm_ev * 1e-3 / FWHM) ** 2 / MNKA_KEV, source)
        return cls(noise, slope, source)

    def sigma(self, energy_kev: float) -> float:
        """Standard deviation of a line, keV."""
        return math.sqrt(max(self.noise + self.slope * energy_kev, 1e-8))

    def fwhm(self, energy_kev: float) -> float:
        """Full width at half maximum, keV."""
        return FWHM * self.sigma(energy_kev)


@functools.cache
def elements() -> tuple[str, ...]:
    """Symbols from H to U; the table has no lines for the first."""
    import xraydb

    return tuple(str(xraydb.atomic_symbol(z)) for z in range(1, 93))


@functools.cache
def families(element: str) -> tuple[Family, ...]:
    """K, L and M families of an element, as far as the table of Elam, Ravel and Sieber (2002) has them.

    Within one subshell the table's weights hold. Between the subshells of L and M the number of
    vacancies is taken as the number of electrons, moved by Coster-Kronig transitions, times the
    fluorescence yield; that is good to some 20 %, and detectors that absorb low energies change it further.
    """
    import xraydb

    try:
        lines, edges = xraydb.xray_lines(element), xraydb.xray_edges(element)
    except (ValueError, KeyError) as exc:
        raise InputError(f"{element!r} is not an element; use a symbol such as Fe") from exc
    found = []
    for shell in "KLM":
        vacancies = {s: float(n) for s, n in _OCCUPANCY.items() if s[0] == shell and s in edges}
        for upper in sorted(vacancies):
            for lower in sorted(vacancies):
                if lower > upper and shell != "K":
                    vacancies[lower] += vacancies[upper] * _coster_kronig(element, upper, lower)
        weighted = []
        for label, line in lines.items():
            start = line.initial_level.split(",")[0]
            if start in vacancies and line.energy > 50:
                weight = line.intensity * vacancies[start] * edges[start].fyield
                weighted.append((line.energy * 1e-3, weight, label))
        total = sum(w for _, w, _ in weighted)
        if total > 0:
            kept = sorted((e, w, n) for e, w, n in weighted if w > 1e-4 * total)
            energies, weights, labels = zip(*kept, strict=True)
            found.append(Family(element, shell, energies, tuple(w / sum(weights) for w in weights), labels))
    return tuple(found)


def _coster_kronig(element: str, upper: str, lower: str) -> float:
    import xraydb

    try:
        return float(xraydb.ck_probability(element, upper, lower, total=False) or 0.0)
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0.0  # light elements have none in the table


def lines_of(element: str) -> dict[str, Line]:
    """Every line of an element that can be mapped, by name."""
    out = {}
    for family in families(element):
        for symbol, members in _GROUPS.items():
            taken = [(e, w) for e, w, n in zip(family.energies_kev, family.weights, family.labels, strict=True)
                     if n in members]  # fmt: skip
            share = sum(w for _, w in taken)
            if share > 0:
                name = f"{element}_{symbol}"
                out[name] = Line(name, sum(e * w for e, w in taken) / share, family, share)
    return out


def find_line(name: str) -> Line:
    """The line of a name such as ``Fe_Ka``.

    Raises:
        InputError: no such line; the message names the nearest ones.

    Examples:
        >>> round(find_line("Fe_Ka").energy_kev, 2)
        6.4
    """
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    if match and match[1] in elements():
        known = lines_of(match[1])
        if name in known:
            return known[name]
    meant = _meant(str(name))
    if meant:
        raise InputError(f"line '{name}' is unknown; did you mean {' or '.join(repr(m) for m in meant)}?")
    raise InputError(f"line '{name}' is unknown; a line is an element and a symbol, such as Fe_Ka, Pt_La or Pt_Ma")


def _meant(name: str) -> tuple[str, ...]:
    """The lines that somebody may mean who writes ``FeKa1``, ``fe k-alpha``, ``Fe`` or a Greek letter."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    for letter, latin in _GREEK.items():
        plain = plain.replace(letter, latin)
    found = re.fullmatch(r"\s*([a-z]{1,2}?)[\W_]*(?:([klm])[\W_]*([abgzln]?)[\d,\W_]*)?", plain)
    if found is None or found[1].capitalize() not in elements():
        return ()
    known = lines_of(found[1].capitalize())
    wanted = f"{found[1]}_{found[2] or ''}{found[3] or ''}"
    if found[2] is None:  # the element alone: its strongest lines
        return tuple(n for n in known if n.endswith("a"))[:2]
    exact = [n for n in known if n.casefold() == wanted] or [n for n in known if n.casefold().startswith(wanted)]
    near = [n for n in known if n.casefold().startswith(wanted[:-1])]
    return tuple((exact or near or list(known))[:1])
