"""Tilts that people write into the names of files: any sign, any decimal mark; what is doubtful is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_DASHES = "-\u2010\u2011\u2012\u2013\u2014\ufe63\uff0d"  # may also be hyphens; U+2212 is a minus and nothing else
_MINUS = "\u2212"
_DIGITS = r"(?:[0-9]+(?:[.,][0-9]+|p[0-9]+(?![0-9]*p[0-9]))?|[.,][0-9]+)"
# a letter is a sign only where it begins a word, or follows "tilt" and the like
_WORDS = r"(?:(?:minus|negative|neg)[\s_-]?|(?:plus|positive|pos)[\s_]?)"
_START = r"(?:(?<![^\W_])|(?<=tilt)|(?<=alpha)|(?<=angle))"
_SIGNED = re.compile(
    rf"(?P<sign>[{_DASHES}{_MINUS}+]\s?|{_START}(?:{_WORDS}|[mnp]))?(?<![0-9])(?<![0-9][.,])(?P<number>{_DIGITS})",
    re.IGNORECASE,
)
_UNIT = re.compile(r"[\s_]?(?:deg(?:ree)?s?|[\u00b0\u00ba\u02da])(?![^\W\d_])", re.IGNORECASE)
# not the alpha of a line, as in "Zn Kalpha1"
_MARK = re.compile(r"(?:tilt|(?<![KLM])(?<![KLM][\s_-])(?:alpha|\u03b1)|angle|ang)[\s_=]*$", re.IGNORECASE)
_SIGN_WORD = re.compile(r"(?<![^\W\d_])(minus|negative|neg|plus|positive|pos)(?![^\W\d_])", re.IGNORECASE)
_TYPE = re.compile(r"(\.ome)?\.[A-Za-z][A-Za-z0-9]*$")  # not the ".5deg" of a name without a type
_WEAK = ("m", "n", "p", "pos", "positive")  # letters that begin other words, too


@dataclass(frozen=True)
class _Token:
    """One number in a name, `before` and `after` the words next to it; `doubt`: its sign may be something else."""

    value: float
    sign: str
    before: str
    after: str
    unit: bool
    marked: bool
    whole: bool
    doubt: bool
    rest: str

    @property
    def sure(self) -> bool:
        """Whether its sign can be nothing else."""
        return bool(self.sign) and not self.doubt


def tilts_from_names(paths: Sequence[str | Path]) -> np.ndarray | str:
    """Tilts ``(file,)`` in degrees from the files' names, or in words why the names do not serve.

    A tilt is the number that is the whole name (``-40.bcf``), or that "deg" or a degree sign follows, or that follows
    "tilt", "alpha" or "angle", or else the one number of the name that bears signs (``Fe_m10.tif``, ``Fe_p05.tif``).
    Signs are ``-``, the Unicode minus and dashes, ``+``, and ``m``, ``n``, ``neg``, ``minus``, ``p``, ``pos``, ``plus``
    in front; decimals ``10.5``, ``10,5`` and ``10p5``. Refused are numbers that may only count the files, dashes and
    letters before every number, which may be no signs, and names that differ beside the number.
    """
    names = [_stem(p) for p in paths]
    if not names:
        return "there are no names"
    found = [_tokens(n) for n in names]
    rules: tuple[tuple[str, Callable[[_Token], bool]], ...] = (
        ("whole", lambda t: t.whole),
        ("unit", lambda t: t.unit),
        ("mark", lambda t: t.marked),
    )
    same = ""
    for kind, serves in rules:
        chosen = [[t for t in tokens if serves(t)] for tokens in found]
        if all(chosen):
            if len(names) > 1 and len({tuple(t.value for t in c) for c in chosen}) == 1:
                same = same or f"all names mark the same number, {chosen[0][0].value:g}"
                continue
            picked = _one_each(chosen)
            if isinstance(picked, str):
                return picked
            return _judged(picked, names, kind)
    for name, tokens in zip(names, found, strict=True):
        if sum(any(serves(t) for _, serves in rules) for t in tokens):
            odd = next((n for n, ts in zip(names, found, strict=True) if _kind(ts) != _kind(tokens)), None)
            if odd is not None:
                return f"the names, such as {name} and {odd}, do not follow one pattern"
    bare = _bare(found, names)
    return same if same and isinstance(bare, str) else bare


def by_tilt(paths: Sequence[Path]) -> list[Path]:
    """Files sorted by the tilts in their names; in the order they have where the names do not serve."""
    named = tilts_from_names([p.name for p in paths])
    return list(paths) if isinstance(named, str) else [paths[i] for i in np.argsort(named, kind="stable")]


def _kind(tokens: list[_Token]) -> tuple[bool, bool, bool]:
    return any(t.whole for t in tokens), any(t.unit for t in tokens), any(t.marked for t in tokens)


def _stem(path: str | Path) -> str:
    return _TYPE.sub("", Path(path).name)


def _tokens(name: str) -> list[_Token]:
    out = []
    for match in _SIGNED.finditer(name):
        sign = (match["sign"] or "").strip(" _-").casefold() or (match["sign"] or "").strip()
        digits = match["number"].replace(",", ".").casefold().replace("p", ".")
        begin = match.start()
        minus = bool(sign) and (sign in _DASHES + _MINUS or sign[0] in "mn")
        last = name[begin - 1] if begin else ""
        dash = bool(sign) and sign in _DASHES
        spaced = dash and (match["sign"] or "").endswith((" ", "\t"))
        rest = name[match.end() :]
        unit = _UNIT.match(rest)
        head = name[:begin]
        out.append(
            _Token(
                value=-float(digits) if minus else float(digits),
                sign=sign,
                before=_word(head, r"([^\W\d_]+)[\s_.-]?$") + ("+" if last == "+" and dash else ""),
                after=_word(rest[unit.end() if unit else 0 :], r"^[\s_.-]?([^\W\d_]+|[+-](?![0-9]))"),
                unit=unit is not None,
                marked=bool(_MARK.search(head)),
                whole=begin == 0 and not rest,
                doubt=(dash and (last.isalnum() or spaced)) or sign in _WEAK,
                rest=f"{head} {rest}",
            )
        )
    return out


def _word(text: str, pattern: str) -> str:
    match = re.search(pattern, text)
    return match[1].casefold() if match else ""


def _one_each(chosen: list[list[_Token]]) -> list[_Token] | str:
    """The one number of each name that varies; several marked ones are a doubt."""
    if len({len(c) for c in chosen}) > 1:
        return "some names hold more marked numbers than others"
    if len(chosen[0]) == 1:
        return [c[0] for c in chosen]
    fields = list(zip(*chosen, strict=True))
    named = [f for f in fields if all(t.marked for t in f)]
    varying = [f for f in (named or fields) if len({t.value for t in f}) > 1]
    if len(varying) != 1:
        return "the names mark more than one number as an angle"
    return list(varying[0])


def _judged(tokens: list[_Token], names: list[str], kind: str) -> np.ndarray | str:
    """The values, unless signs or the numbers themselves leave a doubt."""
    values = np.array([t.value for t in tokens]) + 0.0  # no -0
    if all(t.doubt and t.value <= 0 for t in tokens) and (values < 0).any():
        what = tokens[0].sign
        other = "hyphen" if what in _DASHES else "letter"
        return (
            f"the '{what}' in {names[0]} and in all others may be a minus or a {other}, the first tilt "
            f"{tokens[0].value:g} or {abs(tokens[0].value):g}"
        )
    for word in ("before", "after"):
        seen = {getattr(t, word): n for t, n in zip(tokens, names, strict=True)}
        if len(seen) > 1:
            (a, first), (b, second) = list(seen.items())[:2]
            return (
                f"{first} has {a or 'nothing'!r} beside its number and {second} has {b or 'nothing'!r}, "
                "which may be signs"
            )
    words = {tuple(w.casefold() for w in _SIGN_WORD.findall(t.rest)) for t in tokens}
    if len(words) > 1:
        return f"the names, such as {names[0]}, hold words for a sign that do not stand before the number"
    if kind != "unit" and _counts(tokens):
        low, high = values.min(), values.max()
        return f"the numbers in the names run from {low:g} to {high:g} and may only count the files"
    return values


def _counts(tokens: list[_Token]) -> bool:
    """Whether whole numbers without signs lie as close as a count does, gaps allowed."""
    values = np.array([t.value for t in tokens])
    if len(values) < 3 or any(t.sign not in ("", "p", "pos") for t in tokens) or (values != np.round(values)).any():
        return False
    step = float(np.median(np.diff(np.sort(values))))
    return step <= 1 or (values.max() <= 3 * len(values) and step < 4)


def _bare(found: list[list[_Token]], names: list[str]) -> np.ndarray | str:
    """Nothing is marked: the one number that bears signs, in all names at the same place."""
    odd = next((n for n, t in zip(names, found, strict=True) if not t), names[0])
    reason = f"the name {odd} is not a number of degrees nor marks one with 'deg' or 'tilt'"
    if len({len(t) for t in found}) > 1 or not found[0]:
        return reason
    signed = [f for f in zip(*found, strict=True) if len({t.value for t in f}) > 1 and _bears_signs(f)]
    if len(signed) != 1:
        return reason
    return _judged(list(signed[0]), names, "bare")


def _bears_signs(field: tuple[_Token, ...]) -> bool:
    """Whether what stands before an unmarked number can only be signs."""
    signs = {t.sign for t in field}
    if any(t.doubt and t.sign in _DASHES for t in field):
        return False
    letters = signs & set(_WEAK)
    return any(t.sure for t in field) or len(letters) > 1 or bool(letters & {"m", "n"} and "" in signs)
