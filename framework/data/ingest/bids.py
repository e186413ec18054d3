"""BIDS with sessions: `sub-*/ses-*/anat`, `participants.tsv`, and a `sessions.tsv` per subject that says when."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from framework.data.ingest.base import Ingested, Reader
from framework.data.ingest.columns import Time, columns
from framework.data.ingest.scans import ScanFiles, grids
from framework.data.ingest.series import Absent, Layout, Planned, subjects
from framework.data.ingest.sheet import MISSING, Row, Sheet, locate, read_sheet
from framework.data.ingest.spec import build, known
from framework.data.ledger import Ledger
from framework.data.schema import Scan, Schema
from framework.errors import UserError

SUBJECT, SESSION, ORDER = "participant_id", "session_id", "(order of the session labels)"
NAME = re.compile(r"(sub-[A-Za-z0-9]+)(?:_(ses-[A-Za-z0-9]+))?(?:_[a-zA-Z]+-[A-Za-z0-9]+)*_([A-Za-z0-9]+)\.nii(?:\.gz)?")


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
    ):
        self.path, self.missing, self.on_error = path, tuple(map(str, missing)), on_error
        self.run = None if run is None else known(run, ["first"], "run")
        self.modalities = grids(modalities)
        own = columns(variables or {}, "variables"), columns(static or {}, "static")
        self.layout = Layout(SUBJECT, build(Time, time, "time"), SESSION, ORDER, *own)
        self.schema = Schema(*(tuple(c.variable for c in group) for group in own), tuple(self.modalities.values()))

    def read(self) -> Ingested:
        root, ledger = locate(self.path), Ledger()
        folders = {folder.name: folder for folder in sorted(root.glob("sub-*")) if folder.is_dir()}
        if not folders:
            raise UserError(f"{root} has no folder sub-*; expected the root of a BIDS dataset: set data.path to it")
        files = ScanFiles(root, self.on_error)
        rows, sources = self._rows(root, folders)
        plan = self.layout.plan(rows, ledger)
        found = {(s.subject, v.id): self._files(folders, s.subject, v.id) for s in plan for v in s.visits}

        def scans(subject: str, visit: Planned) -> Mapping[str, Scan | Absent]:
            here: dict[str, Scan | Absent] = {}
            for name, paths in found[subject, visit.id].items():
                here[name] = files.read(paths[0], self.modalities[name], subject, visit.id) if paths else Absent("missing", "no file")
                here |= {path.name: Absent("excluded", "not the first run") for path in paths[1:]}
            return here

        return Ingested(self.schema, subjects(plan, self.layout, scans, ledger), ledger, sources)

    def _rows(self, root: Path, folders: Mapping[str, Path]) -> tuple[list[Row], dict[str, str]]:
        """A row for every session that a folder or a table names; the tables' SHA-256 beside."""
        sheets = {folder: self._sessions(folder) for folder in folders.values()}
        participants = self._sheet(root / "participants.tsv", SUBJECT)
        tables = [sheet for sheet in (participants, *sheets.values()) if sheet]
        header = {column for sheet in tables for column in sheet.header}
        for what, column in self.layout.columns():
            if column not in (SUBJECT, SESSION, ORDER, self.layout.time.column):
                known(column, sorted(header), f"{root}: participants.tsv and sessions.tsv: {what}: column")
        blank = dict.fromkeys((*header, SUBJECT, SESSION, ORDER, self.layout.time.column))
        people = {}
        for row in participants.rows if participants else ():
            person = row.cells[SUBJECT]
            if person in people:
                raise UserError(f"participants.tsv has subject {person!r} twice: {people[person].where} and {row.where}; keep one row")
            people[person] = row
        rows = []
        for subject in [*folders, *(name for name in people if name not in folders)]:
            person = people.get(subject)
            own = blank | dict(person.cells if person else {}) | {SUBJECT: subject}
            if subject in folders:
                rows += [Row(row.where, own | dict(row.cells)) for row in _visits(folders[subject], sheets[folders[subject]])]
            else:
                rows.append(Row(f"{person.where if person else ''} (no folder {subject})", own))
        return rows, {sheet.path.relative_to(root).as_posix(): sheet.sha256 for sheet in tables}

    def _sessions(self, folder: Path) -> Sheet | None:
        """A subject's sessions table; it may be absent only where there is one session, at time zero."""
        sheet = self._sheet(folder / f"{folder.name}_sessions.tsv", SESSION)
        if sheet is None and len(_labels(folder)) > 1:
            raise UserError(
                f"subject {folder.name!r} has {len(_labels(folder))} sessions but no {folder.name}_sessions.tsv, which says when "
                f"they were; add it, with columns session_id and {self.layout.time.column}"
            )
        if sheet is not None:
            sheet.require(self.layout.time.column, "time")
        return sheet

    def _sheet(self, path: Path, key: str) -> Sheet | None:
        if not path.exists():
            return None
        sheet = read_sheet(path, self.missing)
        sheet.require(key, "its first")
        return sheet

    def _files(self, folders: Mapping[str, Path], subject: str, session: str) -> dict[str, list[Path]]:
        """Each modality's files at one session, in order of name."""
        if subject not in folders:
            return {name: [] for name in self.modalities}
        folder = folders[subject] / session / "anat" if session.startswith("ses-") else folders[subject] / "anat"
        found: dict[str, list[Path]] = {name: [] for name in self.modalities}
        for file in sorted(folder.glob("*.nii*")):
            name = NAME.fullmatch(file.name)
            if name and name[3] in found:
                if name[1] != subject or (name[2] or session) != session:
                    raise UserError(f"{file} lies with subject {subject!r}, session {session!r}, but is named otherwise; move or rename it")
                found[name[3]].append(file)
        for modality, files in found.items():
            if len(files) > 1 and self.run is None:
                raise UserError(
                    f"subject {subject!r}, visit {session!r} has {len(files)} files of {modality}: {[f.name for f in files]}; "
                    "keep one, or add data.reader.run=first"
                )
        return found


def _labels(folder: Path) -> list[str]:
    return sorted(session.name for session in folder.glob("ses-*") if session.is_dir())


def _visits(folder: Path, sheet: Sheet | None) -> list[Row]:
    """A row per session of the table, then one per session that only has a folder."""
    listed = list(sheet.rows if sheet else ())
    named = {row.cells[SESSION] for row in listed}
    labels = _labels(folder)
    if not labels and not listed:
        labels = ["1"]  # a dataset without sessions: one visit a subject
    # with one session and no table, its time is zero
    time = None
    rows = [*listed, *(Row(f"{folder.name}/{label}", {SESSION: label}) for label in labels if label not in named)]
    numbers = [re.fullmatch(r"ses-(\d+)", row.cells[SESSION] or "") for row in rows]
    ordered = all(numbers)
    return [Row(row.where, dict(row.cells) | {ORDER: n[1] if ordered and n else None}) for row, n in zip(rows, numbers, strict=True)]
