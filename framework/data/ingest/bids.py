"""BIDS with sessions: `sub-*/ses-*/anat`, `participants.tsv`, and a `sessions.tsv` per subject that says when."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from framework.data.ingest.base import Ingested, Reader
from framework.data.ingest.bounded import Limits
from framework.data.ingest.columns import Time, columns
from framework.data.ingest.scans import ScanFiles, grids
from framework.data.ingest.series import Absent, Layout, Planned, subjects
from framework.data.ingest.sheet import MISSING, Row, Sheet, locate, read_sheet
from framework.data.ingest.spec import build, known
from framework.data.ledger import Ledger
from framework.data.schema import Scan
from framework.errors import UserError

SUBJECT, SESSION, ORDER = "participant_id", "session_id", "the session labels"
NAME = re.compile(
    r"(sub-[A-Za-z0-9]+)(?:_(ses-[A-Za-z0-9]+))?(?:_[a-zA-Z]+-[A-Za-z0-9]+)*_([A-Za-z0-9]+)\.nii(?:\.gz)?"
)


class Bids(Reader):
    """Anatomical scans and tables of a BIDS folder.

    `modalities` maps a BIDS suffix (T1w) to its `Grid`. `time` names the column of the sessions table. `static` and
    `variables` map columns of the participants and the sessions table; where both have a column, the session's wins.
    Sessions labelled by numbers must come in the order of time. Of several runs, `run` "first" takes the first by name.
    """

    def __init__(
        self,
        path: str,
        modalities: Mapping,
        time: Mapping,
        variables: Mapping | None = None,
        static: Mapping | None = None,
        missing: Sequence[str] = MISSING,
        run: str | None = None,
        on_error: str = "stop",
        limits: Mapping | None = None,
        scans: Mapping | None = None,
    ):
        self.path, self.missing, self.on_error = path, tuple(map(str, missing)), on_error
        self.limits = build(Limits, limits or {}, "limits")
        self.run = None if run is None else known(run, ["first"], "run")
        self.modalities, self.scans = grids(modalities), scans or {}
        self.layout = Layout(
            subject=SUBJECT,
            time=build(Time, time, "time"),
            visit=SESSION,
            order=ORDER,
            variables=columns(variables or {}, "variables"),
            static=columns(static or {}, "static"),
        )
        self.schema = self.layout.schema(tuple(grid.modality(name) for name, grid in self.modalities.items()))

    def read(self) -> Ingested:
        root, ledger = locate(self.path), Ledger()
        folders = {folder.name: folder for folder in sorted(root.glob("sub-*")) if folder.is_dir()}
        if not folders:
            raise UserError(f"{root} has no folder sub-*; expected the root of a BIDS dataset: set data.path to it")
        files = ScanFiles(root, self.on_error, self.modalities, ledger, self.scans)
        rows, sources = self._rows(root, folders, ledger)
        plan = self.layout.plan(rows, ledger)
        found = {(s.subject, v.id): self._files(folders, s.subject, v.id) for s in plan for v in s.visits}

        def scans(subject: str, visit: Planned) -> Mapping[str, Scan | Absent]:
            here: dict[str, Scan | Absent] = {}
            for name, paths in found[subject, visit.id].items():
                here[name] = files.read(paths[0], name, subject, visit.id) if paths else Absent("missing", "no file")
                here |= {path.name: Absent("excluded", "not the first run") for path in paths[1:]}
            return here

        return Ingested(self.schema, files.compared(subjects(plan, self.layout, scans, ledger)), ledger, sources)

    def _rows(self, root: Path, folders: Mapping[str, Path], ledger: Ledger) -> tuple[list[Row], dict[str, str]]:
        """A row for every session that a folder or a table names, and the tables' SHA-256."""
        sheets = {name: self._sessions(folder) for name, folder in folders.items()}
        participants = self._sheet(root / "participants.tsv", SUBJECT)
        tables = [sheet for sheet in (participants, *sheets.values()) if sheet]
        header = sorted({column for sheet in tables for column in sheet.header})
        for column in (*self.layout.variables, *self.layout.static):
            known(column.column, header, f"{root}: participants.tsv and sessions.tsv: variable {column.name!r}: column")
        people = self._people(participants, folders, ledger)
        rows = []
        for name, folder in folders.items():
            # a session's column wins over a participant's of the same name
            blank = dict.fromkeys((*header, ORDER, self.layout.time.column)) | people.get(name, {}) | {SUBJECT: name}
            rows += [Row(row.where, blank | dict(row.cells)) for row in _visits(folder, sheets[name], self.layout.time)]
        return rows, {sheet.path.relative_to(root).as_posix(): sheet.sha256 for sheet in tables}

    def _people(
        self, sheet: Sheet | None, folders: Mapping[str, Path], ledger: Ledger
    ) -> dict[str, dict[str, str | None]]:
        people: dict[str, Row] = {}
        for row in sheet.rows if sheet else ():
            person = row.cells[SUBJECT]
            if person is None:
                ledger.add("", row.where, "visit", "excluded", f"no subject in column {SUBJECT!r}")
            elif person in people:
                raise UserError(
                    f"subject {person!r} stands twice: {people[person].where} and {row.where}; keep one row"
                )
            else:
                people[person] = row
                if person not in folders:
                    ledger.add(
                        person, "", "subject", "excluded", "in participants.tsv, but there is no folder of that name"
                    )
        return {person: dict(row.cells) for person, row in people.items()}

    def _sessions(self, folder: Path) -> Sheet | None:
        """A subject's sessions table; it may be absent only where there is one session, at time zero."""
        file, labels = f"{folder.name}_sessions.tsv", _labels(folder)
        sheet = self._sheet(folder / file, SESSION)
        if sheet is None and len(labels) > 1:
            raise UserError(
                f"subject {folder.name!r} has {len(labels)} sessions but no {file}, which says when they were; "
                f"add it, with columns {SESSION} and {self.layout.time.column}"
            )
        if sheet is not None:
            sheet.require(self.layout.time.column, "time")
            wrong = [row.where for row in sheet.rows if not (row.cells[SESSION] or "ses-").startswith("ses-")]
            if wrong:
                raise UserError(
                    f"{wrong[0]} has a {SESSION} without its prefix; write ses-<label>, as the folder is named"
                )
        return sheet

    def _sheet(self, path: Path, key: str) -> Sheet | None:
        if not path.exists():
            return None
        sheet = read_sheet(path, self.missing, self.limits)
        sheet.require(key, "its key")
        return sheet

    def _files(self, folders: Mapping[str, Path], subject: str, session: str) -> dict[str, list[Path]]:
        """Each modality's files at one session, in order of name."""
        folder = folders[subject] / session / "anat" if session.startswith("ses-") else folders[subject] / "anat"
        found: dict[str, list[Path]] = {name: [] for name in self.modalities}
        for file in sorted(folder.glob("*.nii*")):
            name = NAME.fullmatch(file.name)
            if name and name[3] in found:
                if name[1] != subject or (name[2] or session) != session:
                    raise UserError(
                        f"{file} lies with {subject}, session {session}, but is named otherwise; move or rename it"
                    )
                found[name[3]].append(file)
        for modality, files in found.items():
            if len(files) > 1 and self.run is None:
                raise UserError(
                    f"subject {subject!r}, visit {session!r} has {len(files)} files of {modality}: "
                    f"{[file.name for file in files]}; "
                    "keep one, or add data.reader.run=first"
                )
        return found


def _labels(folder: Path) -> list[str]:
    return sorted(session.name for session in folder.glob("ses-*") if session.is_dir())


def _visits(folder: Path, sheet: Sheet | None, time: Time) -> list[Row]:
    """A row per session of the table, then one per session that has only a folder."""
    labels = _labels(folder)
    if sheet is None:  # at most one session, or none at all: one visit, at time zero
        label = labels[0] if labels else "1"
        return [Row(f"{folder.name}/{label}", {SESSION: label, time.column: time.zero})]
    named = {row.cells[SESSION] for row in sheet.rows}
    rows = [*sheet.rows, *(Row(f"{folder.name}/{label}", {SESSION: label}) for label in labels if label not in named)]
    numbers = [re.fullmatch(r"ses-(\d+)", row.cells[SESSION] or "") for row in rows]
    order = [n[1] if n else None for n in numbers] if all(numbers) else [None] * len(rows)
    return [Row(row.where, {**row.cells, ORDER: n}) for row, n in zip(rows, order, strict=True)]
