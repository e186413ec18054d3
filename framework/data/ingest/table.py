"""A long table, one row a visit, with a column map."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from framework.data.cohort.ledger import Ledger
from framework.data.ingest.base import Ingested, Reader
from framework.data.ingest.bounded import Limits
from framework.data.ingest.cells.numbers import decimal_mark
from framework.data.ingest.tables.columns import Time, columns, consistent
from framework.data.ingest.tables.table_file import MISSING, Sheet, locate, read_sheet
from framework.data.ingest.tables.visit_table import Layout, subjects
from framework.data.ingest.validate import build
from framework.errors import UserError


class Table(Reader):
    """Clinical visits in a CSV, TSV or Parquet file.

    `time` is `{column, units, format}`; `variables` (per visit) and `static` (per subject) map each variable's name to
    its `Column`. `visit` and `order` name the columns with the visits' ids and numbers, where there are any. `decimal`
    is the mark of its numbers and `separator` what stands between cells (a comma, in TSV a tab). Ids of subjects that
    differ in case, leading zeros or forms of characters alone are refused, unless `exact_ids`.
    """

    def __init__(
        self,
        path: str | None,
        subject: str,
        time: Mapping,
        visit: str | None = None,
        order: str | None = None,
        variables: Mapping | None = None,
        static: Mapping | None = None,
        missing: Sequence[str] = MISSING,
        limits: Mapping | None = None,
        decimal: str = ".",
        separator: str | None = None,
        exact_ids: bool = False,
    ):
        self.path, self.missing = path, tuple(map(str, missing))
        self.decimal, self.separator = decimal_mark(decimal), separator
        self.limits = build(Limits, limits or {}, "limits")
        self.layout = Layout(
            subject=subject,
            time=build(Time, {"decimal": decimal, **time}, "time"),
            visit=visit,
            order=order,
            variables=columns(variables or {}, "variables", decimal),
            static=columns(static or {}, "static", decimal),
            exact_ids=exact_ids,
        )
        consistent((*self.layout.variables, *self.layout.static), self.missing)
        self.schema = self.layout.schema()

    def files(self) -> dict[str, Path]:
        file = locate(self.path)
        if file.is_dir():
            raise UserError(f"{self.path} is a folder; expected a .csv, .tsv or .parquet file: set data.path to it")
        return {"table": file}

    def sheet(self, derived: Callable[[Sheet], Sheet] = lambda sheet: sheet) -> Sheet:
        """The table, with the columns that are `derived`, once every column of the map is found in it."""
        sheet = derived(self._sheet(self.files()["table"]))
        return self.layout.completed(sheet)

    def _sheet(self, file: Path) -> Sheet:
        return read_sheet(file, self.missing, self.limits, (self.layout.subject,), self.decimal, self.separator)

    def read(self) -> Ingested:
        sheet, ledger = self.sheet(), Ledger()
        plan = self.layout.plan(sheet.rows, ledger)
        return Ingested(
            self.schema, subjects(plan, self.layout, no_scans, ledger), ledger, {sheet.path.name: sheet.sha256}
        )


def no_scans(subject: str, visit: object) -> Mapping:
    """A table has none."""
    return {}
