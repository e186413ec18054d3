"""The tables of the TADPOLE challenge: D1 and D2 in one file, a row a visit, or D3, each subject's last visit alone.

Marinescu et al. (2020). The Alzheimer's Disease Prediction Of Longitudinal Evolution (TADPOLE) challenge. MELBA 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from framework.data.cohort.dates import day, years
from framework.data.cohort.ledger import Ledger
from framework.data.ingest.base import Ingested, Reader
from framework.data.ingest.cells.codes import months_of
from framework.data.ingest.cells.numbers import number
from framework.data.ingest.table import Table, no_scans
from framework.data.ingest.tables.table_file import Row, Sheet, locate, read_sheet
from framework.data.ingest.tables.visit_table import subjects
from framework.errors import UserError

DIAGNOSES = ("CN", "MCI", "AD")
CHANGES = {code: name for name, codes in zip(DIAGNOSES, ("179", "248", "356"), strict=True) for code in codes}
NAMES = {"NL": "CN", "CN": "CN", "MCI": "MCI", "Dementia": "AD", "AD": "AD"}
VOLUMES = ("Ventricles", "Hippocampus", "WholeBrain", "Entorhinal", "Fusiform", "MidTemp")
BOARDS = ("LB1", "LB2")
MISSING = ("NA", "NaN", "nan", "-4", "-4.0")


class Tadpole(Reader):
    """One of the challenge's tables, read as a `Table` with columns that it lacks made of those it has.

    `diagnosis` is what DXCHANGE says, or else DX, of which the state arrived at counts ("NL to MCI" is MCI);
    `<Volume>_ICV` is a volume over the intracranial volume at baseline (D3: of the day). Rows of one day are one visit.
    Ages are at the baseline, `EXAMDATE_bl`, which is made where it lacks: of the row `bl`, or else by Years_bl,
    Month_bl or the months of VISCODE (D3 has no other). `D2` says who is to be forecast; without it everybody is.
    With a table `leaderboard` (RID, VISCODE, LB1, LB2) the column of that name says which of the two a visit is in.
    """

    IGNORED = ("path", "leaderboard", "limits")

    def __init__(
        self,
        path: str | None,
        variables: Mapping,
        static: Mapping,
        leaderboard: str | None = None,
        limits: Mapping | None = None,
    ):
        time = {"column": "EXAMDATE", "units": "date"}
        self._table = Table(path, "RID", time, "VISCODE", None, variables, static, MISSING, limits)
        # dates and codes of these tables contradict each other here and there, and cannot be corrected
        self._table.layout = replace(self._table.layout, lenient_codes=True)
        self.schema, self._leaderboard = self._table.schema, leaderboard

    def files(self) -> dict[str, Path]:
        board = {} if self._leaderboard is None else {"leaderboard": locate(self._leaderboard)}
        return self._table.files() | board

    def read(self) -> Ingested:
        ledger, layout = Ledger(), self._table.layout
        sheet = self._table.sheet(self._derived)
        plan = layout.plan(_by_day(sheet.rows, ledger), ledger)
        found = subjects(plan, layout, no_scans, ledger)
        return Ingested(self.schema, found, ledger, {sheet.path.name: sheet.sha256})

    def _derived(self, sheet: Sheet) -> Sheet:
        for column in ("RID", "VISCODE", "EXAMDATE"):
            sheet.require(column, "TADPOLE")
        boards = (
            {}
            if self._leaderboard is None
            else _boards(read_sheet(locate(self._leaderboard), MISSING, self._table.limits))
        )
        made = _baselines([_row(row, boards) for row in sheet.rows])
        if boards and all(row.cells["leaderboard"] is None for row in made):
            raise UserError(
                f"no RID and VISCODE of {self._leaderboard} is in {sheet.path}; expected the leaderboard of this table"
            )
        names = dict.fromkeys(name for row in made for name in row.cells)
        absent = [name for name in names if name not in sheet.header]
        return replace(sheet, header=(*sheet.header, *absent), rows=tuple(made))


def _boards(sheet: Sheet) -> dict[tuple[str, str | None], str]:
    """Which visits are in LB1 or LB2, by RID and VISCODE."""
    for column in ("RID", "VISCODE", *BOARDS):
        sheet.require(column, "leaderboard")
    return {
        (_whole(row.cells["RID"] or "", row.where), row.cells["VISCODE"]): board
        for row in sheet.rows
        for board in BOARDS
        if row.cells[board] is not None and _whole(row.cells[board] or "", row.where) == "1"
    }


def _row(row: Row, boards: Mapping[tuple[str, str | None], str]) -> Row:
    cells = dict(row.cells)
    if cells["RID"] is not None:
        cells["RID"] = _whole(cells["RID"], row.where)
    intracranial = cells.get("ICV_bl") or cells.get("ICV")
    over = {f"{name}_ICV": _ratio(cells[name], intracranial, row.where) for name in VOLUMES if name in cells}
    return replace(
        row,
        cells={
            **cells,
            **over,
            "D2": cells.get("D2", "1") or "0",
            "leaderboard": boards.get((cells["RID"] or "", cells["VISCODE"])),
            "diagnosis": _diagnosis(cells, row.where),
        },
    )


def _baselines(rows: Sequence[Row]) -> list[Row]:
    """The rows with the date of each subject's baseline, where anything tells it."""
    found: dict[str | None, str] = {}
    for row in sorted(rows, key=_tells_baseline):
        when = row.cells["RID"] not in found and _baseline(row)
        if when:
            found[row.cells["RID"]] = when
    return [replace(row, cells={**row.cells, "EXAMDATE_bl": found.get(row.cells["RID"])}) for row in rows]


def _tells_baseline(row: Row) -> tuple:
    """A key by which rows that tell the baseline better, then earlier ones, come first."""
    known, when, code = (row.cells.get(name) for name in ("EXAMDATE_bl", "EXAMDATE", "VISCODE"))
    return known is None, code != "bl", known or "", when or "", code or ""


def _baseline(row: Row) -> str | None:
    """The date of the baseline, as one row tells it."""
    cells = row.cells
    if cells.get("EXAMDATE_bl") or cells["EXAMDATE"] is None:
        return cells.get("EXAMDATE_bl")
    since = [_number(cells.get("Years_bl"), row.where), _number(cells.get("Month_bl"), row.where)]
    months = None if cells["VISCODE"] is None else months_of(cells["VISCODE"])
    stated = [months / 12 if months is not None else None, since[0], since[1] / 12 if since[1] is not None else None]
    elapsed = next((each for each in (0.0 if months == 0 else None, *stated[1:], stated[0]) if each is not None), None)
    try:
        return None if elapsed is None else day(years(cells["EXAMDATE"]) - elapsed)
    except ValueError:
        raise UserError(f"{row.where}: EXAMDATE is no date YYYY-MM-DD; correct the cell") from None


def _number(cell: str | None, where: str) -> float | None:
    found = None if cell is None else number(cell)
    if cell is not None and found is None:
        raise UserError(f"{where}: Years_bl or Month_bl is not a number; correct the cell")
    return found


def _diagnosis(cells: Mapping[str, str | None], where: str) -> str | None:
    change, said = cells.get("DXCHANGE"), cells.get("DX")
    if change is not None:
        code = _whole(change, where)
        if code not in CHANGES:
            raise UserError(f"{where}: DXCHANGE is no code from 1 to 9; fix the cell")
        return CHANGES[code]
    if said is None:
        return None
    arrived = said.rpartition(" to ")[2]
    if arrived not in NAMES:
        raise UserError(f"{where}: DX ends in none of {list(NAMES)}; fix the cell")
    return NAMES[arrived]


def _whole(cell: str, where: str) -> str:
    """A whole number as text, however it is written ("7.0" is "7"). Raises UserError for any other."""
    found = number(cell)
    if found is None or not found.is_integer():
        raise UserError(f"{where}: RID or DXCHANGE is no whole number; correct the cell")
    return str(int(found))


def _ratio(volume: str | None, whole: str | None, where: str) -> str | None:
    if volume is None or whole is None:
        return None
    part, over = number(volume), number(whole)
    if part is None or over is None:
        raise UserError(f"{where}: a volume is not a number; correct the cell")
    return str(part / over) if over > 0 else None


def _fullness(row: Row) -> tuple:
    """A key by which fuller rows come first, and equally full ones in an order that is not the file's."""
    cells = row.cells
    return (
        sum(cell is None for cell in cells.values()),
        cells["VISCODE"] or "",
        *(cell or "" for cell in cells.values()),
    )


def _by_day(rows: Sequence[Row], ledger: Ledger) -> list[Row]:
    """One row for each subject and day: what the fullest lacks is taken from the others, which are in the ledger."""
    days: dict[tuple[str | None, str | None], Row] = {}
    for row in sorted(rows, key=_fullness):
        day = row.cells["RID"], row.cells["EXAMDATE"]
        if day in days and None not in day:
            first = days[day]
            filled = {name: cell if cell is not None else row.cells[name] for name, cell in first.cells.items()}
            days[day] = replace(first, cells=filled)
            reason = f"the same day as {first.cells['VISCODE']}, which takes what it lacks from it"
            ledger.add(str(day[0]), row.cells["VISCODE"] or row.where, "visit", "excluded", reason)
        else:
            days[day if None not in day else (row.where, None)] = row
    return list(days.values())
