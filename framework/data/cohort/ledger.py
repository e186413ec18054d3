"""The ledger of an ingest: every subject and visit used or excluded and why, and what is missing at those used."""

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields

import fsspec

from framework.data.cohort.quoting import quoted, unquoted
from framework.errors import UserError

STATUSES = ("used", "missing", "excluded")


@dataclass(frozen=True)
class Entry:
    """One line: `item` is "subject", "visit", or the modality or variable that is missing, excluded or, with a reason
    though used, doubtful there.
    """

    subject: str
    visit: str
    item: str
    status: str
    reason: str = ""


class Ledger:
    """Filled while subjects are read, written beside the cohort as `ledger.csv`.

    `warnings` are about the cohort as a whole, a line each; they are kept in its manifest.
    """

    def __init__(self, entries: Iterable[Entry] = ()):
        self.entries = list(entries)
        self.warnings: list[str] = []

    def add(self, subject: str, visit: str, item: str, status: str, reason: str = "") -> None:
        if status not in STATUSES or (status != "used" and not reason):
            raise ValueError(
                f"ledger entry {subject, visit, item, status, reason}: {STATUSES}, with a reason unless used"
            )
        self.entries.append(Entry(subject, visit, item, status, reason))

    def warn(self, text: str) -> None:
        """Say what is likely to be wrong with the cohort, though it can be read."""
        self.warnings.append(text)

    def names(self, subject: str) -> bool:
        """Whether a subject is accounted for already."""
        return any(entry.item == "subject" and entry.subject == subject for entry in self.entries)

    def used(self) -> dict[str, list[str]]:
        """The visits used, by subject."""
        used = {entry.subject: [] for entry in self.entries if entry.item == "subject" and entry.status == "used"}
        for entry in self.entries:
            if entry.item == "visit" and entry.status == "used":
                used[entry.subject].append(entry.visit)
        return used

    def check(self, written: dict[str, list[str]]) -> None:
        """Raise RuntimeError unless each subject and visit is accounted for once, and those used are those written."""
        for item, keys in (("subject", lambda e: e.subject), ("visit", lambda e: (e.subject, e.visit))):
            counts = Counter(keys(entry) for entry in self.entries if entry.item == item)
            twice = [key for key, count in counts.items() if count > 1]
            if twice:
                raise RuntimeError(f"the ledger accounts for {item} {twice[0]!r} more than once")
        # a row that names no subject stands under the empty id
        named = {entry.subject for entry in self.entries} - {""}
        if named - {entry.subject for entry in self.entries if entry.item == "subject"}:
            raise RuntimeError("the ledger has visits of a subject that it does not account for")
        if self.used() != written:
            raise RuntimeError("the subjects and visits written are not those that the ledger calls used")

    def summary(self) -> str:
        """Counts in one line: subjects and visits used and excluded, then what is missing."""
        counts = Counter((entry.item, entry.status) for entry in self.entries)
        parts = [
            f"{counts[item, 'used']} {item}s used, {counts[item, 'excluded']} excluded" for item in ("subject", "visit")
        ]
        for status in ("missing", "excluded"):
            items = {i: n for (i, s), n in counts.items() if s == status and i not in ("subject", "visit")}
            if items:
                parts.append(f"{status}: " + ", ".join(f"{item} {n}" for item, n in items.items()))
        return "; ".join(parts)

    def reasons(self) -> str:
        """The commonest reasons for exclusion, in one line."""
        counts = Counter(entry.reason for entry in self.entries if entry.status == "excluded")
        return "; ".join(f"{reason} ({count} times)" for reason, count in counts.most_common(3)) or "none were found"

    def write(self, path: str) -> None:
        """Write the entries as CSV to a file or fsspec URL."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(field.name for field in fields(Entry))
        rows.writerows(map(quoted, astuple(entry)) for entry in self.entries)
        files, target = fsspec.url_to_fs(path)
        files.pipe_file(target, text.getvalue().encode())

    @staticmethod
    def read(path: str) -> "Ledger":
        """The ledger in a CSV file. Raises UserError where there is none, or it is no ledger."""
        files, source = fsspec.url_to_fs(path)
        if not files.exists(source):
            raise UserError(f"no ledger at {path}; re-ingest the cohort")
        return Ledger.parse(files.cat_file(source), path)

    @staticmethod
    def parse(content: bytes, path: str) -> "Ledger":
        """The ledger that a CSV file holds, called `path`. Raises UserError where it is no ledger."""
        header, *rows = list(csv.reader(io.StringIO(content.decode()))) or [[]]
        if header != [field.name for field in fields(Entry)]:
            raise UserError(f"{path} is no ledger (its columns are {header}); re-ingest the cohort")
        return Ledger(Entry(*map(unquoted, row)) for row in rows)
