"""Whether a cohort that can be read is read rightly: what cannot be is an error, what hardly can be is a warning.

No message repeats what a patient has; codes and units identify no patient.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median

import numpy as np

from framework.data.cohort.dates import years
from framework.data.cohort.ledger import Ledger
from framework.data.ingest.cells.codes import coded_years
from framework.data.ingest.tables.columns import PER_YEAR, Column, Time
from framework.errors import UserError

LONGEST = 60.0  # years of one person's follow-up
LIFE = 120.0  # years
HALF = 0.5  # years between a visit and what its code says
APART = 15.0  # years between visits, in the median
CODES = {-1, -4, -6, -7, -8, -9, -88, -99, -999, -9999, 77, 88, 95, 96, 97, 98, 99, 777, 888, 999, 8888, 9999}
DATES = 12  # of a group, each counted once: below it chance alone leaves out days above 12
DEATH = re.compile(r"death|dead|died|deceas|mortal", re.IGNORECASE)
AGE = re.compile(r"(?<![a-z])age(?![a-z])", re.IGNORECASE)


def examine(plan: Sequence, layout, ledger: Ledger) -> None:
    """Warn in the ledger of what is unlikely in a plan (`Series`); raise UserError for what is impossible."""
    _no_values(plan, layout, ledger)
    _follow_up(plan, layout.time, ledger)
    _codes(plan, layout, ledger)
    for column in layout.static:
        if column.is_event_time:
            _terminal(plan, column)
    _everybody(plan, layout, ledger)
    for column in (*layout.variables, *layout.static):
        values = _numbers(plan, column, layout)
        if len(values):
            _range(column, values, ledger)
            _code_of_missing(column, values, ledger)
    for column in layout.variables:
        if column.per_year and not column.baseline_plus_elapsed:
            _advance(plan, column, ledger)
    _formats(plan, layout, ledger)


def _cells(plan: Sequence, column: Column, layout) -> list:
    if column in layout.static:
        return [series.static[column.name] for series in plan]
    return [visit.values[column.name] for series in plan for visit in series.visits]


def _numbers(plan: Sequence, column: Column, layout) -> np.ndarray:
    if column.levels or column.is_date or column.is_event_time:
        return np.zeros(0)
    return np.array([value for value in _cells(plan, column, layout) if value is not None], float)


def _no_values(plan: Sequence, layout, ledger: Ledger) -> None:
    for column in (*layout.variables, *layout.static):
        cells = _cells(plan, column, layout)
        if not cells or any(cell is not None for cell in cells):
            continue
        what = f"{column.name} (column {column.column!r}) has no value for any of {len(plan)} subjects"
        if not (column.optional or column.sparse or column.is_event_time):
            raise UserError(f"{what}; correct the column or `missing`, drop the variable, or set its sparse: true")
        if "input" in column.roles:
            ledger.warn(f"{what}; models take it for unknown")


def _follow_up(plan: Sequence, time: Time, ledger: Ledger) -> None:
    spans = [series.visits[-1].elapsed - series.visits[0].elapsed for series in plan if series.visits]
    if not spans or time.shifted:
        return
    longest = max(range(len(spans)), key=spans.__getitem__)
    series = [series for series in plan if series.visits][longest]
    where = f"{series.visits[0].row.where} and {series.visits[-1].row.where}"
    if spans[longest] > (LONGEST if time.units == "date" else LIFE):
        fix = (
            "correct the dates, or, where they were shifted on purpose, set time.shifted: true"
            if time.units == "date"
            else f"set the units of time (in days it would be {_in_days(spans[longest], time):.1f} years)"
        )
        raise UserError(
            f"subject {series.subject!r} is followed for {spans[longest]:.0f} years ({time.column!r} in {time.units}, "
            f"{where}); {fix}"
        )
    gaps = [after.elapsed - before.elapsed for one in plan for before, after in pairwise(one.visits)]
    if time.units != "date" and (spans[longest] > LONGEST or (gaps and median(gaps) > APART)):
        ledger.warn(
            f"visits are {median(gaps):.0f} years apart in the median and a subject is followed for up to "
            f"{spans[longest]:.0f} years, if {time.column!r} is in {time.units}; in days it would be "
            f"{_in_days(spans[longest], time):.1f} years: check the units of time"
        )


def _in_days(span: float, time: Time) -> float:
    return span * PER_YEAR[time.units] / PER_YEAR["days"]


def _codes(plan: Sequence, layout, ledger: Ledger) -> None:
    """Visits whose codes say when they were are held against their times."""
    far, disordered = [], []
    for series in plan:
        coded = [(visit, code) for visit in series.visits if (code := coded_years(visit.id))]
        for kind in ("months", "day"):
            visits = [(visit, code[1]) for visit, code in coded if code[0] == kind]
            disordered += [(series, *pair) for pair in pairwise(visits) if pair[1][1] < pair[0][1]]
            for visit, says in visits[1:]:
                off = (visit.elapsed - visits[0][0].elapsed) - (says - visits[0][1])
                if abs(off) > HALF:
                    far.append((abs(off), series, visit))
    if disordered:
        series, (before, _), (after, _) = disordered[0]
        text = (
            f"subject {series.subject!r} has visits out of order: the codes {before.id!r} and {after.id!r} and "
            f"{layout.time.column!r} disagree at {before.row.where} and {after.row.where}"
        )
        if not layout.lenient_codes:
            raise UserError(f"{text}; correct one of the two")
        ledger.warn(f"{text} ({len(disordered)} times in all)")
    if far:
        off, series, visit = max(far, key=lambda one: one[0])
        subjects = len({one.subject for _, one, _ in far})
        ledger.warn(
            f"{len(far)} visits of {subjects} subjects are more than half a year from what their codes say; the "
            f"farthest, {visit.id!r} of subject {series.subject!r} ({visit.row.where}), by {off:.1f} years: check "
            f"{layout.time.column!r}"
        )


def _terminal(plan: Sequence, column: Column) -> None:
    """A death before the first visit, or before a later one, is none."""
    named = bool(DEATH.search(column.name) or DEATH.search(column.column))
    if not (named if column.terminal is None else column.terminal):
        return
    day = 1 / PER_YEAR["days"]
    wrong = []
    for series in plan:
        at = series.static[column.name]
        if at is not None and series.visits and float(at) < series.visits[-1].elapsed - day:
            wrong.append((series, next(v for v in series.visits if v.elapsed - day > float(at))))
    if wrong:
        series, visit = wrong[0]
        first = "their first visit" if visit is series.visits[0] else "a visit"
        raise UserError(
            f"{len(wrong)} subjects have {column.name} (column {column.column!r}) before a visit, such as "
            f"{series.subject!r} before {first} ({visit.row.where}); correct the times, or, if one may be seen after "
            "it, set its terminal: false"
        )


def _everybody(plan: Sequence, layout, ledger: Ledger) -> None:
    """Where the end of follow-up stands in the place of an event, everybody has it."""
    moments = [column for column in layout.static if column.is_event_time]
    complete = [all(series.static[column.name] is not None for series in plan) for column in moments]
    if len(plan) >= 5 and complete and all(complete):
        ledger.warn(
            f"{moments[0].name} (column {moments[0].column!r}) is there for every one of {len(plan)} subjects, as if "
            "each had the event; if it is the end of follow-up of those who did not, leave their cells empty and map "
            "the end of follow-up as a variable of its own (`until` of the event)"
        )


def _range(column: Column, values: np.ndarray, ledger: Ledger) -> None:
    """Default plausible ranges, where none is declared."""
    if column.bounds != (None, None):
        return
    low, high = -np.inf, np.inf
    if column.units == "years":
        low, high = (0.0 if AGE.search(column.name) or AGE.search(column.column) else low), LIFE
    elif column.units.split(" of ")[0] == "fraction":
        low, high = 0.0, 1.0
    outside = int(((values < low) | (values > high)).sum())
    if outside:
        ledger.warn(
            f"{outside} of {len(values)} values of {column.name} (column {column.column!r}, in {column.units}) are "
            f"outside [{low:g}, {high:g}]; if they are codes (300 for an age above 89), name them as missing or give "
            "them a value with `map`; else declare bounds"
        )


def _code_of_missing(column: Column, values: np.ndarray, ledger: Ledger) -> None:
    """An extreme value that is a customary code, comes more than once and lies far from all others."""
    if column.per_year:
        return
    ends = [end for end in (values.min(), values.max()) if end in CODES and (values == end).sum() > 1]
    for sign in (1.0, -1.0):
        signed = np.sort(sign * values)
        extreme = signed[-1]
        rest = signed[(signed < extreme) & ~np.isin(sign * signed, ends)]
        if sign * extreme not in CODES or (signed == extreme).sum() < 2 or len(rest) < 2:
            continue
        if extreme - rest[-1] > 0.5 * (rest[-1] - rest[0]) and extreme - rest[-1] > 1:
            ledger.warn(
                f"{column.name} (column {column.column!r}) is {sign * extreme:g} {(signed == extreme).sum()} times, "
                f"far from all other values; name it if it is a code: data.reader.missing=[..., '{sign * extreme:g}']"
            )


def _advance(plan: Sequence, column: Column, ledger: Ledger) -> None:
    """Refuse a variable that should advance by itself, but not as the visits' times say."""
    off = []
    for series in plan:
        seen = [(v.elapsed, float(value)) for v in series.visits if (value := v.values[column.name]) is not None]
        steps = [(b - a) - float(column.per_year or 0) * (t - s) for (s, a), (t, b) in pairwise(seen)]
        if steps:
            off.append(max(map(abs, steps)))
    wrong = [one for one in off if one > 1.5 * max(1.0, abs(column.per_year or 0))]
    if len(wrong) > 0.05 * len(off):
        ledger.warn(
            f"{column.name} (column {column.column!r}) does not advance with time in {len(wrong)} of {len(off)} "
            f"subjects, by up to {max(wrong):.1f} {column.units}; check it, and the units of time"
        )


def _formats(plan: Sequence, layout, ledger: Ledger) -> None:
    """Formats of dates that the dates given do not distinguish from another.

    Columns of one format speak for each other; of one column, or of one group in it, many dates must be silent.
    """
    rows = [visit.row for series in plan for visit in series.visits]
    groups = [column for column in (*layout.variables, *layout.static) if "group" in column.roles]
    forms: dict[str, list[str]] = {}
    for name, form in _dated(layout):
        if any(row.cells[name] is not None for row in rows):
            forms.setdefault(form, []).append(name)
    for form, names in forms.items():
        if "%y" in form:
            ledger.warn(
                f"{names[0]!r} has years of two digits ({form}), which are read as 1969 to 2068; prefer YYYY-MM-DD"
            )
        swapped = _swapped(form)
        if not swapped:
            continue
        cells = {name: [(row, cell) for row in rows if (cell := row.cells[name]) is not None] for name in names}
        every = [cell for some in cells.values() for _, cell in some]
        if _ambiguous(every, form, swapped, " and ".join(map(repr, names)), "", ledger):
            continue
        for name, some in cells.items():
            parts = {"": [cell for _, cell in some]}
            for group in groups:
                for row, cell in some:
                    if row.cells.get(group.column) is not None:
                        parts.setdefault(f" of {group.name} {row.cells[group.column]!r}", []).append(cell)
            for whose, part in parts.items():
                if len(set(part)) >= DATES and _ambiguous(part, form, swapped, repr(name), whose, ledger):
                    break


def _dated(layout) -> Iterator[tuple[str, str]]:
    """Columns of dates with a declared format."""
    found = {column.column: column.format for column in (*layout.variables, *layout.static) if column.is_date}
    if layout.time.units == "date":
        found[layout.time.column] = layout.time.format
        found |= {column.column: layout.time.format for column in layout.static if column.is_event_time}
    return ((name, form) for name, form in found.items() if form)


def _swapped(form: str) -> str | None:
    """The format with day and month swapped; None where they cannot be swapped: years first, or not both there."""
    if "%d" not in form or "%m" not in form or re.match(r"%[yY]", form):
        return None
    return form.replace("%d", "\0").replace("%m", "%d").replace("\0", "%m")


def _ambiguous(cells: Sequence[str], form: str, swapped: str, name: str, whose: str, ledger: Ledger) -> bool:
    """Warn where every date could as well be read with day and month swapped; count those that would be others."""
    moved = []
    for cell in dict.fromkeys(cells):  # a date that stands in many rows is one
        try:
            moved.append(abs(years(cell, form) - years(cell, swapped)) * PER_YEAR["days"])
        except ValueError:
            return False  # this one can be read in one way alone
    other = [days for days in moved if days > 0]
    if other:
        ledger.warn(
            f"none of {len(moved)} dates{whose} in column {name} has a day above 12, so {form} is not distinguishable "
            f"from {swapped}, by which {len(other)} would be other days ({median(other):.0f} days away in the median); "
            "check one of them, and prefer YYYY-MM-DD"
        )
    return bool(other)
