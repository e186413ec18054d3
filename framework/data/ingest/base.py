"""What every way in is, and the one function that turns it into a cohort on disk with its ledger."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import fsspec

from framework.data.ledger import Ledger
from framework.data.schema import Schema, Subject
from framework.data.store import Cohort, append, exists, open_cohort, write
from framework.errors import UserError

LEDGER = "ledger.csv"
EXISTING = ("refuse", "append", "overwrite")


@dataclass(frozen=True)
class Ingested:
    """What a reader found: `subjects` is read lazily, and `ledger` is complete once it is exhausted.

    `sources` are the tables that were read, with their SHA-256; scans carry their own. `together` subjects are kept in
    one shard: more than 1 where scans are many and small.
    """

    schema: Schema
    subjects: Iterator[Subject]
    ledger: Ledger
    sources: Mapping[str, str] = field(default_factory=dict)
    together: int = 1


class Reader(ABC):
    """A way in: its constructor takes the configuration, `read` opens the data."""

    @abstractmethod
    def read(self) -> Ingested:
        """The cohort at the source. Raises UserError for what the user can mend, before any scan is read if it can."""


def ingest(
    reader: Reader, store: str, existing: str = "refuse", progress: Callable[[int], None] | None = None
) -> Cohort:
    """Write what `reader` finds to a cohort at `store`, its ledger beside it; `progress` is told each subject's number.

    On any failure nothing is left, and a cohort that was there (`existing` is "append" or "overwrite") stays as it was.
    """
    if existing not in EXISTING:
        raise UserError(f"existing is {existing!r}; expected one of {list(EXISTING)}")
    there = exists(store)
    if there and existing == "refuse":
        raise UserError(
            f"there is a cohort at {store} already; add existing=overwrite or existing=append, or name another store"
        )
    found = reader.read()
    if progress:
        found = replace(found, subjects=_counted(found.subjects, progress))
    if there and existing == "append":
        made = _append(found, store)
        _warn(found.ledger)
        return made
    provenance = {"reader": type(reader).__name__, "sources": dict(found.sources)}
    if not there:
        made = write(store, found.schema, _accounted(found, store, {}), provenance, found.together)
        _warn(found.ledger)
        return made
    files, root = fsspec.url_to_fs(store.rstrip("/"))
    if files.exists(f"{root}.new"):
        files.rm(f"{root}.new", recursive=True)  # an earlier replacement that was killed
    target = f"{store.rstrip('/')}.new"
    write(target, found.schema, _accounted(found, target, {}), provenance, found.together)
    files.rm(root, recursive=True)
    files.mv(f"{root}.new", root, recursive=True)
    _warn(found.ledger)
    return open_cohort(store)


def _append(found: Ingested, store: str) -> Cohort:
    before = open_cohort(store)
    if before.schema != found.schema:
        raise UserError(
            f"the schema of {store} is not that of the data to append; ingest both anew with one configuration"
        )
    files, root = fsspec.url_to_fs(store)
    found.ledger.entries[:0] = Ledger.read(f"{store}/{LEDGER}").entries
    try:
        append(
            store,
            _accounted(found, f"{store}/.append", dict(zip(before.subjects, map(list, before.visits), strict=True))),
        )
        files.mv(f"{root}/.append/{LEDGER}", f"{root}/{LEDGER}")
    finally:
        if files.exists(f"{root}/.append"):
            files.rm(f"{root}/.append", recursive=True)
    return open_cohort(store)


def _warn(ledger: Ledger) -> None:
    for warning in ledger.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _accounted(found: Ingested, folder: str, written: dict[str, list[str]]) -> Iterator[Subject]:
    """Pass subjects through, then write the ledger: inside the write, so that a failure takes it away too."""
    before = len(written)
    for subject in found.subjects:
        written[subject.id] = [visit.id for visit in subject.visits]
        yield subject
    if len(written) == before:
        raise UserError(f"no subject can be used, so nothing is written; excluded: {found.ledger.reasons()}")
    found.ledger.check(written)
    files, root = fsspec.url_to_fs(folder)
    files.makedirs(root, exist_ok=True)
    found.ledger.write(f"{folder}/{LEDGER}")


def _counted(subjects: Iterator[Subject], progress: Callable[[int], None]) -> Iterator[Subject]:
    for number, subject in enumerate(subjects, 1):
        progress(number)
        yield subject
