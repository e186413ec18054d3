"""A folder of NIfTI files, named by a table of visits."""

from collections.abc import Mapping
from pathlib import Path

from framework.data.cohort.ledger import Ledger
from framework.data.cohort.schema import Scan
from framework.data.ingest.base import Ingested, Reader
from framework.data.ingest.scans.reading import Reading
from framework.data.ingest.scans.regridding import ScanFiles, grids
from framework.data.ingest.table import Table
from framework.data.ingest.tables.table_file import locate
from framework.data.ingest.tables.visit_table import Absent, Planned, subjects
from framework.data.ingest.validate import build
from framework.errors import UserError
from framework.files import size_of


class Nifti(Reader):
    """Scans in the folder `path`; a row of `visits` is a visit, and names a file below the folder per modality.

    `modalities` maps each modality to its `Grid`, `files` to the column with its file where that is not the
    modality's own name. An empty cell is a scan that was not taken. `on_error`: stop, or exclude what cannot be read.
    """

    def __init__(
        self,
        path: str | None,
        visits: Table,
        modalities: Mapping,
        files: Mapping[str, str] | None = None,
        on_error: str = "stop",
        scans: Mapping | None = None,
    ):
        self.path, self.visits, self.modalities, self.on_error = path, visits, grids(modalities), on_error
        self.scans = build(Reading, scans or {}, "scans")
        unknown = set(files or {}) - set(self.modalities)
        if unknown:
            raise UserError(f"files names {sorted(unknown)}; expected some of the modalities {sorted(self.modalities)}")
        self.columns = {name: name for name in self.modalities} | {name: str(c) for name, c in (files or {}).items()}
        self.schema = visits.layout.schema(tuple(grid.modality(name) for name, grid in self.modalities.items()))

    def files(self) -> dict[str, Path]:
        root, sheet = locate(self.path), self.visits.sheet()
        named = {row.cells.get(column) for row in sheet.rows for column in self.columns.values()} - {None}
        scans = {str(file): root / str(file) for file in named}
        return self.visits.files() | {name: file for name, file in scans.items() if file.is_file()}

    def read(self) -> Ingested:
        root = locate(self.path)
        ledger = Ledger()
        files = ScanFiles(root, self.on_error, self.modalities, ledger, self.scans)
        sheet = self.visits.sheet()
        for name, column in self.columns.items():
            sheet.require(column, f"files of {name}")
        plan = self.visits.layout.plan(sheet.rows, ledger)
        visits = [visit for series in plan for visit in series.visits]
        for name, column in self.columns.items():
            if visits and not any(visit.row.cells[column] for visit in visits):
                raise UserError(
                    f"{sheet.path} names no file of {name} at any of {len(visits)} visits (column {column!r}); "
                    f"correct the column, or leave it out: ~data.reader.modalities.{name}"
                )
        for series in plan:
            for visit in series.visits:
                self._must_exist(root, series.subject, visit)

        def scans(subject: str, visit: Planned) -> Mapping[str, Scan | Absent]:
            found: dict[str, Scan | Absent] = {}
            for name, column in self.columns.items():
                file = visit.row.cells[column]
                found[name] = (
                    files.read(root / file, name, subject, visit.id)
                    if file
                    else Absent("missing", f"no file in column {column!r}")
                )
            return found

        found = files.compared(subjects(plan, self.visits.layout, scans, ledger))
        return Ingested(self.schema, found, ledger, {sheet.path.name: sheet.sha256})

    def _must_exist(self, root: Path, subject: str, visit: Planned) -> None:
        """A file that is named but not there, or lies outside the folder, is found before the first is read."""
        for column in self.columns.values():
            file = visit.row.cells[column]
            if file and (Path(file).is_absolute() or ".." in Path(file).parts):
                raise UserError(
                    f"subject {subject!r}, visit {visit.id!r}: {visit.row.where} names {file}, which may lie outside "
                    f"{root}; name files by their path inside it"
                )
            if file and self.on_error == "stop":
                self._require_file(root / file, f"subject {subject!r}, visit {visit.id!r}: {visit.row.where} names")

    def _require_file(self, path: Path, where: str) -> None:
        name = path.relative_to(locate(self.path))
        try:
            size_of(path)
        except UserError as error:
            wrong = (
                f"{name}, which cannot be read: {error}" if path.exists() else f"{name}, which is not in {self.path}"
            )
            raise UserError(
                f"{where} {wrong}; fix the name, empty the cell, or add data.reader.on_error=exclude"
            ) from None
