"""The column map: which column holds which variable, and in what units the time of a visit is written."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from framework.data.dates import DAYS_PER_YEAR, UNITS
from framework.data.dates import years as years_of
from framework.data.ingest.spec import build, known
from framework.data.schema import Value, Variable
from framework.errors import UserError

PER_YEAR = {"days": DAYS_PER_YEAR, "weeks": DAYS_PER_YEAR / 7, "months": 12.0, "years": 1.0}


@dataclass(frozen=True)
class Column:
    """A variable and the column it is read from.

    `map` renames what a cell says before it is read ({1: M, 2: F}); a number outside `bounds` is an error.
    With `plus_time` the column holds the value at time zero (age at baseline), and a visit's value is that
    plus `per_year` times the visit's time. With `as_time` it holds, once per subject, a time written as the visits' own
    is (when someone died), which becomes years since the first visit. A column with the role "date" holds dates
    (ISO 8601, or in `format`).
    """

    name: str
    column: str = ""
    roles: tuple[str, ...] = ("input",)
    units: str = "1"
    levels: tuple[str | int | float, ...] = ()
    ordered: bool = False
    positive_from: str | int | float | None = None
    per_year: float | None = None
    description: str = ""
    map: Mapping[str, str | int | float] = field(default_factory=dict)
    bounds: tuple[float, float] | None = None
    plus_time: bool = False
    as_time: bool = False
    format: str = ""

    def __post_init__(self):
        object.__setattr__(self, "column", self.column or self.name)
        if self.is_date:
            object.__setattr__(self, "units", UNITS)
        if self.as_time and (self.levels or self.bounds or self.plus_time or self.is_date):
            raise UserError(f"variable {self.name!r} is as_time and so takes no levels, bounds, plus_time or role date")
        if self.as_time:
            object.__setattr__(self, "units", "years")
        if self.levels and (self.bounds or self.plus_time):
            raise UserError(
                f"variable {self.name!r} has levels and also bounds or plus_time, which are for numbers; remove one"
            )
        if self.plus_time and self.per_year is None:
            raise UserError(f"variable {self.name!r} has plus_time but no per_year; say how fast it advances (age: 1)")
        _ = self.variable  # a wrong role or level is an error now, before a file is opened

    @property
    def is_date(self) -> bool:
        return "date" in self.roles

    @property
    def variable(self) -> Variable:
        mine = {f.name: getattr(self, f.name) for f in fields(Variable)}
        start = None if self.positive_from is None else str(self.positive_from)
        return Variable(**mine | {"levels": tuple(map(str, self.levels)), "positive_from": start})

    def read(self, cell: str | None) -> Value:
        """The value in a cell. Raises UserError without repeating the cell: what patients have stays in the table."""
        if cell is None:
            return None
        if self.map:
            renamed = _same(cell, self.map)
            cell = cell if renamed is None else str(self.map[renamed])
        if self.levels:
            level = _same(cell, [str(level) for level in self.levels])
            if level is None:
                raise UserError(
                    f"{self.name} (column {self.column!r}) is none of its levels {list(map(str, self.levels))}; "
                    "mend the cell, map it to a level, or add the level"
                )
            return level
        if self.is_date:
            return _date(cell, self.format, f"{self.name} (column {self.column!r})", "format")
        number = _number(cell)
        if number is None:
            raise UserError(
                f"{self.name} (column {self.column!r}) is no finite number; mend the cell, or name its text as missing"
            )
        if self.bounds and not self.bounds[0] <= number <= self.bounds[1]:
            raise UserError(
                f"{self.name} (column {self.column!r}) is outside its bounds {list(self.bounds)} {self.units}; "
                "mend the cell, or widen the bounds"
            )
        return number


@dataclass(frozen=True)
class Time:
    """The column that says when a visit was, in `units` since any origin, or as dates (ISO 8601, or in `format`)."""

    column: str
    units: str = "years"
    format: str = ""

    def __post_init__(self):
        known(self.units, [*PER_YEAR, "date"], "time: units")

    @property
    def zero(self) -> str:
        """A cell that says time zero."""
        return datetime(2000, 1, 1).strftime(self.format or "%Y-%m-%d") if self.units == "date" else "0"

    def years(self, cell: str) -> float:
        """Years since the column's own origin. Raises UserError where the cell is no such time."""
        if self.units != "date":
            number = _number(cell)
            if number is None:
                raise UserError(f"time (column {self.column!r}) is no finite number of {self.units}; mend the cell")
            return number / PER_YEAR[self.units]
        return _date(cell, self.format, f"time (column {self.column!r})", "time.format")


def columns(node: Mapping[str, Any], where: str) -> tuple[Column, ...]:
    """The columns of a YAML mapping from variable to its description."""
    if not isinstance(node, Mapping):
        raise UserError(f"{where} is {node!r}; expected a mapping from variable to its column")
    made = tuple(build(Column, spec or {}, f"{where}.{name}", name=str(name)) for name, spec in node.items())
    for column in made:
        if column.as_time and where != "static":
            raise UserError(f"{where}.{column.name} is as_time, which is told once per subject; map it under static")
    return made


def _date(cell: str, form: str, what: str, key: str) -> float:
    try:
        return years_of(cell, form)
    except ValueError:
        raise UserError(f"{what} is no date {form or 'YYYY-MM-DD'}; mend the cell, or set {key}") from None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _same(cell: str, options: Any) -> str | None:
    """The option that says what `cell` says, as text or as a number ("0.0" is "0")."""
    if cell in options:
        return cell
    number = _number(cell)
    return None if number is None else next((option for option in options if _number(option) == number), None)
