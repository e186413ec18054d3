"""BIDS with sessions: `sub-*/ses-*/anat`, `participants.tsv`, and a `sessions.tsv` per subject that says when."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from framework.data.cohort.ledger import Ledger
from framework.data.cohort.schema import Scan
from framework.data.ingest.base import Ingested, Reader
from framework.data.ingest.bids_names import Name, differences, first, parse, resembles, unwanted, wanted
from framework.data.ingest.bounded import Limits
from framework.data.ingest.cells.joins import people_have_folders, sessions_have_folders, unprefixed
from framework.data.ingest.ignored import Ignored
from framework.data.ingest.scans.reading import Reading
from framework.data.ingest.scans.regridding import ScanFiles, grids
from framework.data.ingest.tables.columns import Time, columns, consistent
from framework.data.ingest.tables.table_file import MISSING, Row, Sheet, locate, read_sheet
from framework.data.ingest.tables.visit_table import Absent, Layout, Planned, subjects
from framework.data.ingest.validate import build, known
from framework.errors import UserError

SUBJECT, SESSION, ORDER = "participant_id", "session_id", "the session labels"


class Bids(Reader):
    """Anatomical scans and tables of a BIDS folder.

    `modalities` maps a BIDS suffix (T1w) to its `Grid`. `time` names the column of the sessions table. `static` and
    `variables` map columns of the participants and the sessions table; where both have a column, the session's wins.
    Sessions labelled by numbers must come in the order of time. Of files that differ in their run alone, `run` "first"
    takes the first by number; `entities` says what names must hold (`{ce: null}`: no contrast agent). What
    `.bidsignore` sets aside is not read; tables are.
    """

    def __init__(
        self,
        path: str | None,
        modalities: Mapping,
        time: Mapping,
        variables: Mapping | None = None,
        static: Mapping | None = None,
        missing: Sequence[str] = MISSING,
        run: str | None = None,
        on_error: str = "stop",
        limits: Mapping | None = None,
        scans: Mapping | None = None,
        entities: Mapping | None = None,
    ):
        self.path, self.missing, self.on_error = path, tuple(map(str, missing)), on_error
        self.limits = build(Limits, limits or {}, "limits")
        self.entities = entities or {}
        self.run = None if run is None else known(run, ["first"], "run")
        self.modalities, self.scans = grids(modalities), build(Reading, scans or {}, "scans")
        self.layout = Layout(
            subject=SUBJECT,
            time=build(Time, time, "time"),
            visit=SESSION,
            order=ORDER,
            variables=columns(variables or {}, "variables"),
            static=columns(static or {}, "static"),
        )
        consistent((*self.layout.variables, *self.layout.static), self.missing)
        self.schema = self.layout.schema(tuple(grid.modality(name) for name, grid in self.modalities.items()))

    def files(self) -> dict[str, Path]:
        root = locate(self.path)
        tables = ("participants.tsv", ".bidsignore", "sub-*/sub-*_sessions.tsv")
        above = [folder for pattern in ("sub-*", "sub-*/ses-*") for folder in root.glob(pattern)]
        found = [file for pattern in tables for file in root.glob(pattern)]
        found += [file for folder in above for place in (folder, folder / "anat") for file in _nifti(place)]
        return {file.relative_to(root).as_posix(): file for file in found if file.is_file()}

    def read(self) -> Ingested:
        root, ledger = locate(self.path), Ledger()
        ignored = Ignored.of(root)
        folders = self._subjects(root, ignored, ledger)
        if not folders:
            raise UserError(f"{root} has no folder sub-*; expected the root of a BIDS dataset: set data.path to it")
        files = ScanFiles(root, self.on_error, self.modalities, ledger, self.scans)
        rows, sources = self._rows(root, folders, ignored, ledger)
        plan = self.layout.plan(rows, ledger)
        found = {(s.subject, v.id): self._files(folders[s.subject], v.id, ignored) for s in plan for v in s.visits}
        self._must_occur(found.values())
        self._must_have(found.values(), root)
        _warn_once([line for anat in found.values() for line in anat.near_misses], ledger)
        for name in self.modalities:
            _contrasts(name, {s.subject: [found[s.subject, v.id] for v in s.visits] for s in plan}, ledger)

        def scans(subject: str, visit: Planned) -> Mapping[str, Scan | Absent]:
            here: dict[str, Scan | Absent] = {}
            anat = found[subject, visit.id]
            for name, names in anat.taken.items():
                here[name] = (
                    files.read(anat.folder / names[0].text, name, subject, visit.id)
                    if names
                    else Absent("missing", "no file")
                )
                here |= {other.text: Absent("excluded", "not the first run") for other in names[1:]}
            here |= {text: Absent("excluded", reason) for text, reason in anat.left.items()}
            return here

        return Ingested(self.schema, files.compared(subjects(plan, self.layout, scans, ledger)), ledger, sources)

    def _subjects(self, root: Path, ignored: Ignored, ledger: Ledger) -> dict[str, Path]:
        """The folders of subjects by name; those set aside, or nearly so called, are entered in the ledger."""
        folders = {}
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            if folder.name.startswith("sub-"):
                reason = ignored.reason(folder)
                if reason:
                    ledger.add(folder.name, "", "subject", "excluded", reason)
                else:
                    folders[folder.name] = folder
            elif _nearly(folder.name, "sub", "ject"):
                ledger.warn(f"the folder {folder.name} is not read: a subject's is called sub-<label>")
        return folders

    def _rows(
        self, root: Path, folders: Mapping[str, Path], ignored: Ignored, ledger: Ledger
    ) -> tuple[list[Row], dict[str, str]]:
        """A row for every session that a folder or a table names, and the tables' SHA-256."""
        sheets = {name: self._sessions(folder, ignored) for name, folder in folders.items()}
        participants = self._sheet(root / "participants.tsv", SUBJECT)
        tables = [sheet for sheet in (participants, *sheets.values()) if sheet]
        header = sorted({column for sheet in tables for column in sheet.header})
        for column in (c for c in (*self.layout.variables, *self.layout.static) if not c.optional):
            known(column.column, header, f"{root}: participants.tsv and sessions.tsv: variable {column.name!r}: column")
        header = sorted({*header, *(c.column for c in (*self.layout.variables, *self.layout.static))})
        people = self._people(participants, folders, ledger)
        rows = []
        for name, folder in folders.items():
            # a session's column wins over a participant's of the same name
            blank = dict.fromkeys((*header, ORDER, self.layout.time.column)) | people.get(name, {}) | {SUBJECT: name}
            visits = _visits(folder, sheets[name], self.layout.time, ignored)
            kept = _set_aside(folder, visits, ignored, ledger)
            odd = [
                path.name for path in sorted(folder.iterdir()) if path.is_dir() and _nearly(path.name, "ses", "sion")
            ]
            for label in odd:
                ledger.add(name, label, "visit", "excluded", "name of its folder not understood")
                ledger.warn(f"the folder {label} of {name} is not read: a session's is called ses-<label>")
            rows += [Row(row.where, blank | dict(row.cells)) for row in kept]
        return rows, {sheet.path.relative_to(root).as_posix(): sheet.sha256 for sheet in tables}

    def _people(
        self, sheet: Sheet | None, folders: Mapping[str, Path], ledger: Ledger
    ) -> dict[str, dict[str, str | None]]:
        people: dict[str, Row] = {}
        aside = {entry.subject for entry in ledger.entries}
        labels = {unprefixed(name): name for name in (*folders, *aside)}
        for row in sheet.rows if sheet else ():
            person = row.cells[SUBJECT]
            person = person if person is None or person in folders else labels.get(unprefixed(person), person)
            if person is None:
                ledger.add("", row.where, "visit", "excluded", f"no subject in column {SUBJECT!r}")
            elif person in people:
                raise UserError(
                    f"subject {person!r} stands twice: {people[person].where} and {row.where}; keep one row"
                )
            else:
                people[person] = row
                if person not in folders and not ledger.names(person):
                    ledger.add(
                        person, "", "subject", "excluded", "in participants.tsv, but there is no folder of that name"
                    )
        if sheet is not None:
            people_have_folders(sheet, SUBJECT, [person for person in people if person not in aside], folders, ledger)
        return {person: dict(row.cells) for person, row in people.items()}

    def _sessions(self, folder: Path, ignored: Ignored) -> Sheet | None:
        """A subject's sessions table; it may be absent only where there is one session, at time zero."""
        file, labels = f"{folder.name}_sessions.tsv", _labels(folder, ignored)
        sheet = self._sheet(folder / file, SESSION)
        if sheet is None and len(labels) > 1:
            raise UserError(
                f"subject {folder.name!r} has {len(labels)} sessions but no {file}, which says when they were; "
                f"add it, with columns {SESSION} and {self.layout.time.column}"
            )
        if sheet is not None:
            sheet.require(self.layout.time.column, "time")
            sessions_have_folders(sheet, SESSION, (path.name for path in folder.glob("ses-*") if path.is_dir()))
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

    def _files(self, folder: Path, session: str, ignored: Ignored) -> "Anat":
        """The content of one session's anat: files of each modality in order of their runs, and what is left out."""
        above = folder / session if session.startswith("ses-") else folder
        found, left = dict[str, list[Name]]((name, []) for name in self.modalities), dict[str, str]()
        near_misses = list[str]()
        for file in _nifti(above / "anat"):
            name = parse(file.name)
            near = next((modality for modality in self.modalities if resembles(file.name, modality)), None)
            if name and name.suffix in found:
                if name.subject != folder.name or (name.session or session) != session:
                    raise UserError(
                        f"{file} lies with {folder.name}, session {session}, but is named otherwise; move or rename it"
                    )
                reason = ignored.reason(file) or unwanted(name, wanted(self.entities, name.suffix))
                if reason:
                    left[file.name] = reason
                else:
                    found[name.suffix].append(name)
            elif near or name is None:
                left[file.name] = ignored.reason(file) or "name not understood"
                if near and not ignored.reason(file):
                    near_misses.append(
                        f"{file.name} of {folder.name}, {session}, is not read: a scan of {near} ends in _{near}.nii.gz"
                    )
        for file in [] if above == folder and _labels(folder, ignored) else _nifti(above):
            left[file.name] = f"it lies in {above.name}, not in its folder anat"
            near_misses.append(
                f"{file.name} of {folder.name}, {session}, is not read: it lies in {above.name}, not in anat"
            )
        where = f"subject {folder.name!r}, visit {session!r}"
        taken = {
            modality: first(names, modality, self.run, where) if len(names) > 1 else names
            for modality, names in found.items()
        }
        return Anat(above / "anat", taken, left, near_misses)

    def _must_have(self, found: Collection["Anat"], root: Path) -> None:
        """Raise UserError for a modality of which no visit has a file."""
        for name in self.modalities:
            if found and not any(anat.taken[name] for anat in found):
                near = next((f" ({line})" for anat in found for line in anat.near_misses), "")
                raise UserError(
                    f"{root} has no file of {name} at any of {len(found)} visits{near}; correct the names, or leave it "
                    f"out: ~data.reader.modalities.{name}"
                )

    def _must_occur(self, found: Iterable["Anat"]) -> None:
        """Raise UserError for an entity that is asked for and that no file has."""
        names = [name for anat in found for text in (*_texts(anat), *anat.left) if (name := parse(text))]
        present = sorted({key for name in names for key in name.entities})
        for modality in self.modalities:
            for key, value in wanted(self.entities, modality).items():
                if value is not None:
                    known(key, present, "entities: entity")


@dataclass(frozen=True)
class Anat:
    """The files of a session: of each modality in order of their runs, and why others are left out."""

    folder: Path
    taken: Mapping[str, list[Name]]
    left: Mapping[str, str]
    near_misses: list[str]


def _texts(anat: Anat) -> list[str]:
    return [name.text for names in anat.taken.values() for name in names]


def _contrasts(modality: str, found: Mapping[str, Sequence[Anat]], ledger: Ledger) -> None:
    """Warn of subjects whose visits have files of one modality that differ in more than their run."""
    changed = dict[str, dict[str, list[str]]]()
    for subject, visits in found.items():
        changes = differences([anat.taken[modality][0] for anat in visits if anat.taken[modality]])
        if changes:
            changed[subject] = changes
    if changed:
        subject, (key, values) = next(iter(changed)), next(iter(next(iter(changed.values())).items()))
        ledger.warn(
            f"{modality} of {len(changed)} subjects differs in {key} from visit to visit ({subject}: "
            f"{', '.join(values)}), as if another contrast were a change; +data.reader.entities.{key}=<value or null> "
            "takes one of them"
        )


def _nifti(folder: Path) -> list[Path]:
    """Files that may be scans by their names, in order of name; not the ._ files of macOS."""
    if not folder.is_dir():
        return []
    return sorted(
        file for file in folder.iterdir() if ".nii" in file.name.lower() and file.name[0] != "." and not file.is_dir()
    )


def _set_aside(folder: Path, rows: Sequence[Row], ignored: Ignored, ledger: Ledger) -> list[Row]:
    """The visits but for those that .bidsignore sets aside, which the ledger then accounts for."""
    reasons = {row.where: ignored.reason(folder / (row.cells[SESSION] or "")) for row in rows}
    kept = [row for row in rows if not reasons[row.where]]
    for row in rows:
        if reasons[row.where]:
            ledger.add(folder.name, row.cells[SESSION] or row.where, "visit", "excluded", reasons[row.where] or "")
    if not kept:
        why = "all of its sessions are set aside by .bidsignore" if rows else "it has no session"
        ledger.add(folder.name, "", "subject", "excluded", why)
    return kept


def _nearly(name: str, prefix: str, rest: str) -> bool:
    """Whether a folder is named nearly as one of a subject or session: Sub-01, session_2, sub01."""
    odd = re.match(rf"{prefix}({rest})?[-_ ]?[0-9]|{prefix}({rest})?[-_ ]\w", name, re.IGNORECASE)
    return odd is not None and not name.startswith(f"{prefix}-")


def _warn_once(lines: Sequence[str], ledger: Ledger) -> None:
    """Say the first of several lines, and how many more the ledger has."""
    if lines:
        ledger.warn(lines[0] + (f" ({len(lines) - 1} more: see the ledger)" if len(lines) > 1 else ""))


def _labels(folder: Path, ignored: Ignored) -> list[str]:
    """The sessions that have a folder, but for those set aside."""
    return sorted(session.name for session in folder.glob("ses-*") if session.is_dir() and not ignored.reason(session))


def _visits(folder: Path, sheet: Sheet | None, time: Time, ignored: Ignored) -> list[Row]:
    """A row per session of the table, then one per session that has only a folder."""
    labels = _labels(folder, ignored)
    if sheet is None:  # at most one session, or none at all: one visit, at time zero
        label = labels[0] if labels else "1"
        return [Row(f"{folder.name}/{label}", {SESSION: label, time.column: time.zero})]
    named = {row.cells[SESSION] for row in sheet.rows}
    rows = [*sheet.rows, *(Row(f"{folder.name}/{label}", {SESSION: label}) for label in labels if label not in named)]
    numbers = [re.fullmatch(r"ses-(\d+)", row.cells[SESSION] or "") for row in rows]
    order = [n[1] if n else None for n in numbers] if all(numbers) else [None] * len(rows)
    return [Row(row.where, {**row.cells, ORDER: n}) for row, n in zip(rows, order, strict=True)]
