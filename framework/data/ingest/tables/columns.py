"""The column map: which column holds which variable, and in what units the time of a visit is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from framework.data.cohort.dates import DAYS_PER_YEAR, UNITS
from framework.data.cohort.dates import years as years_of
from framework.data.cohort.schema import Value, Variable
from framework.data.ingest.cells.numbers import Missing, decimal_mark, likely, number, same
from framework.data.ingest.validate import build, known
from framework.errors import UserError
from framework.types import Bounds

PER_YEAR = {"days": DAYS_PER_YEAR, "weeks": DAYS_PER_YEAR / 7, "months": 12.0, "years": 1.0}


@dataclass(frozen=True)
class Column:
    """A variable and the column it is read from.

    `map` renames what a cell says before it is read ({1: M, 2: F}, or pairs: [["90+", 90]]); a number outside `bounds`
    is an error (null: no bound on that side). With `scale` "log" models read the number's logarithm, so that it must be
    above 0. `decimal` is the mark that its numbers are written with.

    With `baseline_plus_elapsed` the column holds the value at time zero (age at baseline), or at the time in the column
    `origin`, written as the visits' own is, and a visit's value is that plus `per_year` times the time since. Dates
    have no zero: without an `origin` the subject's first row counts.

    With `is_event_time` the column holds, once per subject, a time written as the visits' own is (when someone died),
    which becomes years since the first visit; no visit comes after it if it is `terminal`, which a death is by its
    name. A column with the role "date" holds dates (ISO 8601, or in `format`). Dates after today are errors unless they
    were `shifted` on purpose.

    A column without a value for any subject is an error unless it is `sparse`, and so is one that is not there unless
    it is `optional`.
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
    map: Mapping[str, str | int | float] | tuple[tuple[str | int | float, str | int | float], ...] = field(
        default_factory=dict
    )
    bounds: Bounds = (None, None)
    scale: str = "linear"
    baseline_plus_elapsed: bool = False
    is_event_time: bool = False
    format: str = ""
    optional: bool = False
    sparse: bool = False
    decimal: str = "."
    origin: str = ""
    terminal: bool | None = None
    shifted: bool = False

    def __post_init__(self):
        object.__setattr__(self, "column", self.column or self.name)
        pairs = self.map.items() if isinstance(self.map, Mapping) else self.map
        object.__setattr__(self, "map", {str(key): value for key, value in pairs})
        decimal_mark(self.decimal)
        if self.is_date:
            object.__setattr__(self, "units", UNITS)
        bounded = any(end is not None for end in self.bounds)
        if self.is_event_time and (self.levels or bounded or self.baseline_plus_elapsed or self.is_date):
            raise UserError(
                f"variable {self.name!r} has is_event_time and so takes no levels, bounds, baseline_plus_elapsed or "
                "role date"
            )
        if self.is_event_time:
            object.__setattr__(self, "units", "years")
        if self.levels and (bounded or self.baseline_plus_elapsed):
            raise UserError(
                f"variable {self.name!r} has levels and also bounds or baseline_plus_elapsed, which are for numbers; "
                "remove one"
            )
        if self.baseline_plus_elapsed and self.per_year is None:
            raise UserError(
                f"variable {self.name!r} has baseline_plus_elapsed but no per_year; say how fast it advances (age: 1)"
            )
        if self.origin and not self.baseline_plus_elapsed:
            raise UserError(
                f"variable {self.name!r} has an origin, which is for baseline_plus_elapsed; remove one or add the other"
            )
        if self.terminal is not None and not self.is_event_time:
            raise UserError(
                f"variable {self.name!r} is terminal, which is for is_event_time; remove one or add the other"
            )
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
            renamed = same(cell, map(str, dict(self.map)), self.decimal)
            if renamed is not None:
                return self._read(str(dict(self.map)[renamed]), ".")
        return self._read(cell, self.decimal)

    def _read(self, cell: str, decimal: str) -> Value:
        if self.levels:
            level = same(cell, [str(level) for level in self.levels], decimal)
            if level is None:
                raise UserError(
                    f"{self.name} (column {self.column!r}) is none of its levels {list(map(str, self.levels))}; "
                    "fix the cell, map it to a level, or add the level"
                )
            return level
        if self.is_date:
            when = _date(cell, self.format, f"{self.name} (column {self.column!r})", "format")
            if not self.shifted:
                _past(when, f"{self.name} (column {self.column!r})", "its shifted: true")
            return when
        value = number(cell, decimal)
        if value is None:
            raise UserError(
                f"{self.name} (column {self.column!r}) is no finite number; correct the cell, name its text as "
                f"missing, or `map` it to one{likely(cell)}"
            )
        low, high = self.bounds
        if (low is not None and value < low) or (high is not None and value > high):
            unit = "" if self.units == "1" else f" {self.units}"
            raise UserError(
                f"{self.name} (column {self.column!r}) is outside its bounds {list(self.bounds)}{unit}; "
                "fix the cell, or widen the bounds"
            )
        if self.scale == "log" and value <= 0:
            raise UserError(
                f"{self.name} (column {self.column!r}) has scale log and is not above 0; "
                "fix the cell, name it as missing, or remove scale: log"
            )
        return value


@dataclass(frozen=True)
class Time:
    """The column that says when a visit was, in `units` since any origin, or as dates (ISO 8601, or in `format`).

    `shifted` dates may be after today, and a follow-up by them may be of any length.
    """

    column: str
    units: str = "years"
    format: str = ""
    decimal: str = "."
    shifted: bool = False

    def __post_init__(self):
        decimal_mark(self.decimal)
        known(self.units, [*PER_YEAR, "date"], "time: units")

    @property
    def zero(self) -> str:
        """A cell that says time zero."""
        return datetime(2000, 1, 1).strftime(self.format or "%Y-%m-%d") if self.units == "date" else "0"

    def years(self, cell: str) -> float:
        """Years since the column's own origin. Raises UserError where the cell is no such time."""
        if self.units != "date":
            value = number(cell, self.decimal)
            if value is None:
                raise UserError(
                    f"time (column {self.column!r}) is no finite number of {self.units}; correct the cell{likely(cell)}"
                )
            return value / PER_YEAR[self.units]
        return _date(cell, self.format, f"time (column {self.column!r})", "time.format")

    def must_be_past(self, years: float, what: str) -> None:
        """Raise UserError for a date after today."""
        if self.units == "date" and not self.shifted:
            _past(years, what, "time.shifted: true")


def columns(node: Mapping[str, Any], where: str, decimal: str = ".") -> tuple[Column, ...]:
    """The columns of a YAML mapping from variable to its description."""
    if not isinstance(node, Mapping):
        raise UserError(f"{where} is {node!r}; expected a mapping from variable to its column")
    made = tuple(
        build(Column, _with(decimal, spec or {}), f"{where}.{name}", name=str(name)) for name, spec in node.items()
    )
    for column in made:
        if column.is_event_time and where != "static":
            raise UserError(
                f"{where}.{column.name} has is_event_time, which is recorded once per subject; map it under static"
            )
    return made


def _with(decimal: str, spec: Any) -> Any:
    return {"decimal": decimal, **spec} if isinstance(spec, Mapping) else spec


def consistent(columns: Sequence[Column], missing: Sequence[str]) -> None:
    """Raise UserError for a level, or a text to be renamed, that could never be read, since it is a code of missing."""
    codes = Missing(missing)
    for column in columns:
        for what, texts in (("level", column.levels), ("key of map", dict(column.map))):
            for text in map(str, texts):
                if text in codes:
                    raise UserError(
                        f"variable {column.name!r} has the {what} {text!r}, which is also a code of missing values "
                        f"({list(missing)}); take it out of one of the two: data.reader.missing=[...]"
                    )


def _date(cell: str, form: str, what: str, key: str) -> float:
    try:
        return years_of(cell, form)
    except ValueError:
        serial = "; it looks like a spreadsheet's number of days" if cell.isascii() and cell.isdigit() else ""
        raise UserError(
            f"{what} is no date {form or 'YYYY-MM-DD'}; fix the cell, or set {key}{serial if len(cell) == 5 else ''}"
        ) from None


def _past(years: float, what: str, fix: str) -> None:
    tomorrow = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=1)
    if years > years_of(tomorrow.isoformat()):
        raise UserError(
            f"{what} lies after today; correct the cell, or, where dates were shifted on purpose, set {fix}"
        )
