"""Numbers as they are written in cells: plain ones in ASCII digits with a declared decimal mark, and nothing else."""

import math
import re
from collections.abc import Iterable

from framework.errors import UserError

MARKS = (".", ",")
PLAIN = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
LIKELY = (  # what a cell that is not a number looks like, and what to do about it
    (r"[<>≤≥]\s*[\d.,]+|[\d.,]+\s*\+", "it is a bound such as 90+ or <5; give it a number with `map`"),
    (r"[+-]?\d+,\d+", "its mark is a comma; declare it with data.reader.decimal=',', or remove marks of thousands"),
    (r"[+-]?\d+\.\d+", "its mark is a point, where data.reader.decimal is ','; write all numbers alike"),
    (r"[+-]?\d{1,3}(?:[,.'\s]\d{3})+(?:[,.]\d+)?", "it has marks of thousands; remove them"),
    (r"[−–]\s*[\d.,]+", "its minus is no hyphen (-); correct it"),
    (r"[+-]?[\d.,]+\s*[A-Za-z%°µ/]+.*", "it has a unit behind the number; keep the number alone"),
)


def number(text: str, decimal: str = ".") -> float | None:
    """The finite number that a cell holds, or None."""
    if decimal == ",":
        if "." in text:
            return None
        text = text.replace(",", ".")
    if not PLAIN.fullmatch(text):
        return None
    found = float(text)
    return found if math.isfinite(found) else None


def likely(text: str) -> str:
    """Why a cell is not a number, where that can be guessed, without repeating it."""
    return next((f"; {why}" for pattern, why in LIKELY if re.fullmatch(pattern, text, re.ASCII)), "")


def same(cell: str, options: Iterable[str], decimal: str = ".") -> str | None:
    """The option that says what `cell` says, as text or as a number ("0.0" is "0")."""
    options = list(options)
    if cell in options:
        return cell
    value = number(cell, decimal)
    return None if value is None else next((option for option in options if number(option) == value), None)


class Missing:
    """The codes of missing values: texts as they are, numbers by value (-4 is -4.0, and 999 is 999.00)."""

    def __init__(self, codes: Iterable[str], decimal: str = "."):
        self._texts, self._decimal = frozenset(codes), decimal
        self.words = frozenset(code for code in self._texts if number(code) is None)
        self._numbers = {value for code in self._texts if (value := number(code)) is not None}

    def __contains__(self, cell: str) -> bool:
        if cell in self._texts:
            return True
        return bool(self._numbers) and number(cell, self._decimal) in self._numbers


def decimal_mark(mark: str) -> str:
    """`mark`, if it is a decimal mark."""
    if mark not in MARKS:
        raise UserError(f"decimal is {mark!r}; expected one of {list(MARKS)}")
    return mark
