"""The interface of readers, and the function that writes what one finds to a cohort on disk with its ledger."""

import inspect
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import fsspec

from framework.configurable import configurable
from framework.data.cohort.ledger import Ledger
from framework.data.cohort.schema import Schema, Subject
from framework.data.cohort.store import Cohort, append, exclusive, exists, open_cohort, write
from framework.data.cohort.store.atomic import ASIDE, discard, local_path, replace_whole, vacant
from framework.data.cohort.store.files import APPENDED, BESIDE, read_beside
from framework.data.ingest.identity import Origin, plain
from framework.errors import UserError

logger = logging.getLogger(__name__)

(LEDGER,) = BESIDE
IF_EXISTS = ("refuse", "append", "overwrite")
R = TypeVar("R", bound="Reader")


@dataclass(frozen=True)
class Ingested:
    """The content of a source: `subjects` is read lazily, and `ledger` is complete once it is exhausted.

    `sources` are the tables that were read, with their SHA-256; scans carry their own. `subjects_per_shard` subjects
    are kept in one shard: more than 1 where scans are many and small.
    """

    schema: Schema
    subjects: Iterator[Subject]
    ledger: Ledger
    sources: Mapping[str, str] = field(default_factory=dict)
    subjects_per_shard: int = 1


@configurable("reader")
class Reader(ABC):
    """A way in: its constructor takes the configuration, `read` opens the data.

    Two cohorts are the same where `files` have the same content and `settings` are equal: what the constructor was
    given, less what is as by default and less `IGNORED`: where files lie, and what changes no cohort.
    """

    IGNORED: ClassVar[tuple[str, ...]] = ("path", "limits")
    settings: Mapping[str, Any]

    def __new__(cls: type[R], *given: object, **named: object) -> R:
        made = object.__new__(cls)
        signature = inspect.signature(cls.__init__)
        bound = signature.bind(made, *given, **named).arguments
        made.settings = {"reader": cls.__name__} | {
            key: dict(value.settings) if isinstance(value, Reader) else plain(value)
            for key, value in list(bound.items())[1:]
            if key not in cls.IGNORED and not _same(value, signature.parameters[key].default)
        }
        return made

    @abstractmethod
    def files(self) -> Mapping[str, Path]:
        """Every file that is read, by the part it plays, which a file's own name is only where the reader goes by it.

        Raises UserError where there is none.
        """

    @abstractmethod
    def read(self) -> Ingested:
        """The cohort at the source. Raises UserError for what the user can fix, if possible before reading scans."""


def ingest(
    reader: Reader, store: str, if_exists: str = "refuse", progress: Callable[[int], None] | None = None
) -> Cohort:
    """Write what `reader` finds to a cohort at `store`, its ledger beside it.

    `progress` is called with each subject's number. On any failure nothing is left, and a cohort that was there
    (`if_exists` is "append" or "overwrite") stays as it was.
    Raises UserError where another process is writing there.
    """
    if if_exists not in IF_EXISTS:
        raise UserError(f"if_exists is {if_exists!r}; expected one of {list(IF_EXISTS)}")
    with exclusive(store):
        there = exists(store)
        if there and if_exists == "refuse":
            raise UserError(
                f"there is a cohort at {store} already; add if_exists=overwrite or if_exists=append, or name another "
                "store"
            )
        return _append(reader, store, progress) if there and if_exists == "append" else _write(reader, store, progress)


def ingested(reader: Reader, store: str, before: Callable[[], None] = lambda: None) -> Cohort:
    """The cohort at `store`, made where there is none (`before` is called first), once no other process writes it."""
    if not exists(store):
        with exclusive(store, wait=True):
            if not exists(store):  # still, after those who were before
                before()
                _write(reader, store, None)
    return open_cohort(store)


def ledger_of(store: str) -> Ledger:
    """The ledger of the cohort at `store`. Raises UserError where it has none, or not the one that was written."""
    return Ledger.parse(read_beside(store, LEDGER), f"{store}/{LEDGER}")


def _write(reader: Reader, store: str, progress: Callable[[int], None] | None) -> Cohort:
    """A new cohort, written aside and then put in its place whole."""
    folder = local_path(store)
    place = store.rstrip("/") if folder is None else os.path.realpath(folder)
    if not exists(place) and not vacant(place):
        raise UserError(f"{store} is a folder with other files in it; name an empty or a new one")
    found, origin = _read(reader, progress)
    aside = f"{place}{ASIDE}"
    discard(aside)  # of a write that was killed
    write(aside, found.schema, _accounted(found, aside, {}, origin), origin.record, found.subjects_per_shard)
    replace_whole(place)
    _warn(found.ledger)
    return open_cohort(store)


def _append(reader: Reader, store: str, progress: Callable[[int], None] | None) -> Cohort:
    found, origin = _read(reader, progress)
    before = open_cohort(store)
    if before.schema != found.schema:
        raise UserError(
            f"the schema of {store} is not that of the data to append; re-ingest both with one configuration"
        )
    found.ledger.entries[:0] = ledger_of(store).entries
    written = dict(zip(before.subjects, map(list, before.visits), strict=True))
    append(store, _accounted(found, f"{store}/{APPENDED}", written, origin), origin.record)
    _warn(found.ledger)
    return open_cohort(store)


def _read(reader: Reader, progress: Callable[[int], None] | None) -> tuple[Ingested, Origin]:
    files = reader.files()
    origin = Origin(files, reader.settings)
    found = reader.read()
    origin.read(found.sources)
    return replace(found, subjects=_counted(found.subjects, progress)) if progress else found, origin


def _same(value: object, default: object) -> bool:
    return not isinstance(value, Reader) and default is not inspect.Parameter.empty and plain(value) == plain(default)


def _warn(ledger: Ledger) -> None:
    for warning in ledger.warnings:
        logger.warning("%s", warning)


def _accounted(found: Ingested, folder: str, written: dict[str, list[str]], origin: Origin) -> Iterator[Subject]:
    """Pass subjects through, then write the ledger and complete the origin's record.

    Inside the write, so that a failure takes it away too.
    """
    before = len(written)
    for subject in found.subjects:
        written[subject.id] = [visit.id for visit in subject.visits]
        origin.saw(subject)
        yield subject
    if len(written) == before:
        raise UserError(f"no subject can be used, so nothing is written; excluded: {found.ledger.reasons()}")
    found.ledger.check(written)
    files, root = fsspec.url_to_fs(folder)
    files.makedirs(root, exist_ok=True)
    found.ledger.write(f"{folder}/{LEDGER}")
    origin.complete(folder, found.ledger.warnings)


def _counted(subjects: Iterator[Subject], progress: Callable[[int], None]) -> Iterator[Subject]:
    for number, subject in enumerate(subjects, 1):
        progress(number)
        yield subject
