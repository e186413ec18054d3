"""Small tables of the cases, read by the readers that a command would use."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from framework.data.cohort.store import Cohort
from framework.data.ingest.base import ingest
from framework.data.ingest.table import Table

SCORE: Mapping[str, Any] = {"score": {"roles": ["input", "target"]}}


def table(folder: Path, text: str | bytes, name: str = "t.csv", **changed) -> Table:
    """A reader of a table of subject, time and score."""
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    keywords = {"subject": "subject", "time": {"column": "time"}, "variables": SCORE}
    return Table(str(folder / name), **keywords | changed)


def read(folder: Path, text: str | bytes, store: str = "store", **changed) -> Cohort:
    """The cohort of such a table."""
    return ingest(table(folder, text, **changed), str(folder / store), "overwrite")


def warnings(cohort: Cohort) -> list[str]:
    """What was said of the cohort when it was made."""
    return cohort.manifest["provenance"]["warnings"]
