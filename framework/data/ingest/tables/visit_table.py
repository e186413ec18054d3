"""From rows to subjects: one visit a row, grouped, set in order of time and checked before any scan is read."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from framework.data.cohort.ledger import Ledger
from framework.data.cohort.schema import Modality, Scan, Schema, Subject, Value, Visit
from framework.data.ingest.cells.ids import distinct, settled
from framework.data.ingest.cells.numbers import number
from framework.data.ingest.tables.columns import Column, Time
from framework.data.ingest.tables.plausibility import examine
from framework.data.ingest.tables.table_file import Row, Sheet
from framework.data.splits.groups import natural
from framework.errors import UserError


@dataclass(frozen=True)
class Absent:
    """A scan that is not there ("missing") or not wanted ("excluded"), and why."""

    status: str
    reason: str


@dataclass(frozen=True)
class Planned:
    """One visit before its scans are read; `elapsed` is in years since time zero of the time column."""

    id: str
    elapsed: float
    row: Row
    values: Mapping[str, Value]


@dataclass(frozen=True)
class Series:
    """One subject's visits in order of time, and the rows that can be none, with their reasons."""

    subject: str
    visits: tuple[Planned, ...]
    static: Mapping[str, Value]
    dropped: tuple[tuple[str, str], ...]


Scans = Callable[[str, Planned], Mapping[str, Scan | Absent]]


@dataclass(frozen=True)
class Layout:
    """How rows become subjects: which cells hold subject, visit, time and variables.

    Rows may come in any order; where `order` names a column that numbers the visits, it must agree
    with the times. A visit without an id of its own is numbered by time. Codes of visits such as m12 must come in the
    order of time, unless `lenient_codes` has that a warning; `exact_ids` takes ids letter by letter as they are.
    """

    subject: str
    time: Time
    visit: str | None
    order: str | None
    variables: tuple[Column, ...]
    static: tuple[Column, ...]
    exact_ids: bool = False
    lenient_codes: bool = False

    def completed(self, sheet: Sheet) -> Sheet:
        """The table with the columns that may be absent. Raises UserError for one that may not."""
        optional = {c.column for c in (*self.variables, *self.static) if c.optional}
        optional |= {c.origin for c in self.variables if c.optional and c.origin}
        for what, column in self.columns():
            if column not in optional:
                sheet.require(column, what)
        absent = tuple(sorted(optional - set(sheet.header)))
        empty = dict.fromkeys(absent)
        return replace(
            sheet,
            header=(*sheet.header, *absent),
            rows=tuple(replace(row, cells={**empty, **row.cells}) for row in sheet.rows) if absent else sheet.rows,
        )

    def columns(self) -> list[tuple[str, str]]:
        """Every column that is read, after what it is for."""
        named = [("subject", self.subject), ("time", self.time.column), ("visit", self.visit), ("order", self.order)]
        named += [(f"variable {column.name!r}", column.column) for column in (*self.variables, *self.static)]
        named += [(f"origin of {column.name!r}", column.origin) for column in self.variables if column.origin]
        return [(what, column) for what, column in named if column is not None]

    def schema(self, modalities: tuple[Modality, ...] = ()) -> Schema:
        """The schema that the columns make, with these modalities."""
        return Schema(tuple(c.variable for c in self.variables), tuple(c.variable for c in self.static), modalities)

    def plan(self, rows: Sequence[Row], ledger: Ledger) -> list[Series]:
        """Each subject's visits, subjects in order of their ids whatever the order of rows.

        Raises UserError naming subject and lines for the first thing that is wrong.
        """
        if not self.exact_ids:
            rows = settled(rows, self.subject, "subject")
            rows = settled(rows, self.visit, "visit") if self.visit else rows
            distinct(rows, self.subject)
        by_subject: dict[str, list[Row]] = {}
        for row in rows:
            subject = row.cells[self.subject]
            if subject is None:
                ledger.add("", row.where, "visit", "excluded", f"no subject in column {self.subject!r}")
            else:
                by_subject.setdefault(subject, []).append(row)
        plan = [self._series(subject, by_subject[subject]) for subject in sorted(by_subject, key=natural)]
        examine(plan, self, ledger)
        return plan

    def _series(self, subject: str, rows: list[Row]) -> Series:
        self._unique(subject, rows)
        times, dropped, first = self._times(subject, rows)
        dated = sorted((row for row in rows if row.where in times), key=lambda row: times[row.where])
        baseline = {
            c.name: self._constant(subject, c, rows, first)
            for c in (*self.static, *self.variables)
            if c in self.static or c.baseline_plus_elapsed
        }
        origins = {c.name: self._origin(subject, c, rows, first) for c in self.variables if c.baseline_plus_elapsed}
        visits = []
        for place, row in enumerate(dated, 1):
            values = {
                c.name: _advanced(c, baseline[c.name], times[row.where], origins[c.name])
                if c.baseline_plus_elapsed
                else _read(c, row, subject)
                for c in self.variables
            }
            visits.append(Planned(self._id(row) or str(place), times[row.where], row, values))
        self._ordered(subject, visits)
        return Series(subject, tuple(visits), {c.name: baseline[c.name] for c in self.static}, tuple(dropped))

    def _times(self, subject: str, rows: list[Row]) -> tuple[dict[str, float], list[tuple[str, str]], float]:
        """The time of each row that is a visit, why the others are none, and what counts as time zero."""
        times, dropped = {}, []
        for row in rows:
            cell = row.cells[self.time.column]
            if cell is None:
                dropped.append((self._id(row) or row.where, f"no time in column {self.time.column!r}"))
            elif self.visit and self._id(row) is None:
                dropped.append((row.where, f"no visit in column {self.visit!r}"))
            else:
                try:
                    times[row.where] = self.time.years(cell)
                    self.time.must_be_past(times[row.where], f"time (column {self.time.column!r})")
                except UserError as error:
                    raise UserError(f"{row.where} (subject {subject!r}): {error}") from None
        # a date has no origin of its own
        first = min(times.values(), default=0.0) if self.time.units == "date" else 0.0
        return {where: time - first for where, time in times.items()}, dropped, first

    def _id(self, row: Row) -> str | None:
        return row.cells[self.visit] if self.visit else None

    def _constant(self, subject: str, column: Column, rows: list[Row], first: float) -> Value:
        """The one value of a column for a subject; a row where it is missing is skipped."""
        found: dict[Value, str] = {}
        for row in rows:
            value = self._moment(column, row, subject, first) if column.is_event_time else _read(column, row, subject)
            if value is not None:
                found.setdefault(value, row.where)
        if len(found) > 1:
            one, other = list(found.values())[:2]
            kind = "baseline_plus_elapsed" if column.baseline_plus_elapsed else "static"
            raise UserError(
                f"subject {subject!r}: {column.name} differs between {one} and {other}, but is {kind}; "
                "fix the table, or map the column under `variables` as it is"
            )
        return next(iter(found), None)

    def _moment(self, column: Column, row: Row, subject: str, first: float) -> Value:
        """A cell as a time on the visits' clock; what patients have stays in the table."""
        cell = row.cells[column.column]
        if cell is None:
            return None
        try:
            found = self.time.years(cell)
        except UserError:
            raise UserError(
                f"{row.where} (subject {subject!r}): {column.name} (column {column.column!r}) is no time as the "
                f"visits' {self.time.column!r} has it ({self.time.units}); fix the cell, or drop is_event_time"
            ) from None
        self.time.must_be_past(found, f"{row.where} (subject {subject!r}): {column.name} (column {column.column!r})")
        return found - first

    def _origin(self, subject: str, column: Column, rows: list[Row], first: float) -> float | None:
        """When a value that advances by itself was what its column says; None where that is not known."""
        if not column.origin:
            return 0.0
        at = replace(
            column, column=column.origin, baseline_plus_elapsed=False, origin="", levels=(), bounds=(None, None)
        )
        found = {
            value: row.where for row in reversed(rows) if (value := self._moment(at, row, subject, first)) is not None
        }
        if len(found) > 1:
            one, other = list(found.values())[:2]
            raise UserError(
                f"subject {subject!r}: the origin of {column.name} (column {column.origin!r}) differs between {one} "
                f"and {other}; correct the table"
            )
        return None if not found else float(next(iter(found)))

    def _unique(self, subject: str, rows: list[Row]) -> None:
        seen: dict[str, Row] = {}
        for row in rows:
            visit = self._id(row)
            if visit in seen:
                raise UserError(
                    f"subject {subject!r} has visit {visit!r} twice: {seen[visit].where} and {row.where}; "
                    "keep one row, or give each visit its own id"
                )
            if visit is not None:
                seen[visit] = row

    def _ordered(self, subject: str, visits: list[Planned]) -> None:
        for before, after in pairwise(visits):
            lines = f"{before.row.where} and {after.row.where}"
            if after.elapsed == before.elapsed:
                raise UserError(
                    f"subject {subject!r} has two visits at the same time ({self.time.column!r}): {lines}; "
                    "keep one row, or fix the time"
                )
            if self.order and not _in_order(before.row.cells[self.order], after.row.cells[self.order]):
                raise UserError(
                    f"subject {subject!r} has visits out of order: {self.order!r} and {self.time.column!r} disagree "
                    f"at {lines}; fix one of the two"
                )


def assemble(series: Series, layout: Layout, scans: Scans, ledger: Ledger) -> Subject | None:
    """Read one subject's scans and account for it in the ledger; None where nothing of it can be used."""
    visits, entries = [], []
    derived = {column.name for column in layout.variables if column.baseline_plus_elapsed or column.is_date}
    for planned in series.visits:
        found = scans(series.subject, planned)
        read = {name: scan for name, scan in found.items() if isinstance(scan, Scan)}
        measured = [name for name, value in planned.values.items() if value is not None and name not in derived]
        absent = {name: (scan.status, scan.reason) for name, scan in found.items() if isinstance(scan, Absent)}
        empty = {
            c.name: ("missing", f"no value in column {c.column!r}")
            for c in layout.variables
            if planned.values[c.name] is None
        }
        if read or measured:
            visits.append(Visit(planned.id, planned.elapsed, planned.values, read))
            entries.append((planned.id, "visit", "used", ""))
            entries += [(planned.id, item, *why) for item, why in (absent | empty).items()]
        else:
            entries.append((planned.id, "visit", "excluded", "no scan and no value was measured"))
            entries += [(planned.id, item, *why) for item, why in absent.items()]
    entries += [(id, "visit", "excluded", reason) for id, reason in series.dropped]
    if visits:
        ledger.add(series.subject, "", "subject", "used")
        for column in layout.static:
            if series.static[column.name] is None:
                ledger.add(series.subject, "", column.name, "missing", f"no value in column {column.column!r}")
    else:
        ledger.add(series.subject, "", "subject", "excluded", "none of its visits can be used")
    for entry in entries:
        ledger.add(series.subject, *entry)
    if not visits:
        return None
    start = visits[0].time
    moments = {column.name for column in layout.static if column.is_event_time}
    static = {
        name: float(value) - start if name in moments and value is not None else value
        for name, value in series.static.items()
    }
    return Subject(series.subject, tuple(replace(visit, time=visit.time - start) for visit in visits), static)


def subjects(plan: Sequence[Series], layout: Layout, scans: Scans, ledger: Ledger) -> Iterator[Subject]:
    """The subjects of a plan, one subject's voxels in memory at a time."""
    for series in plan:
        subject = assemble(series, layout, scans, ledger)
        if subject is not None:
            yield subject


def _read(column: Column, row: Row, subject: str) -> Value:
    try:
        return column.read(row.cells[column.column])
    except UserError as error:
        raise UserError(f"{row.where} (subject {subject!r}): {error}") from None


def _advanced(column: Column, base: Value, elapsed: float, origin: float | None) -> Value:
    return None if base is None or origin is None else float(base) + float(column.per_year or 0) * (elapsed - origin)


def _in_order(before: str | None, after: str | None) -> bool:
    if before is None or after is None:
        return True
    one, other = number(before), number(after)
    return before < after if one is None or other is None else one < other
