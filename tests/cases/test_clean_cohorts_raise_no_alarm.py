"""Of clean cohorts nothing is said, and they are read as they are; an equivalent file gives an equal cohort."""

import csv
import io
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.clean import READERS, clean, ingest_clean
from framework.data.cohort.store import open_cohort
from framework.data.ingest.base import ingest
from tests.cases.tables import SCORE, table


@pytest.mark.parametrize("kind", READERS)
def test_a_clean_cohort_is_read_without_a_word(kind):
    for seed in range(8 if kind in ("table", "tadpole") else 2):
        found = ingest_clean(kind, seed)
        assert (found.get("error"), found.get("warnings"), found.get("wrong")) == (None, [], []), found


def fingerprint(folder: Path, rows: list[dict[str, str]], name: str = "t.csv", **changed) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    keywords = {"variables": {**SCORE, "day": {"column": "time", "roles": ["date"]}}, "name": name, "visit": "visit"}
    reader = table(folder, out.getvalue(), **keywords | {"time": {"column": "time", "units": "date"}} | changed)
    return ingest(reader, f"memory://{folder}/{name}", "overwrite").fingerprint


DAYS = ("2010-01-31", "2010-08-13", "2011-02-03")
PEOPLE = st.lists(st.text("aé1ñ09 _-", min_size=1, max_size=5), min_size=1, max_size=4)
CHANGES = st.sampled_from(
    ["decomposed", "padded", "invisible", "columns", "file", "slashes", "compact", "rows", "points"]
)


@given(PEOPLE, CHANGES)
def test_an_equivalent_spelling_changes_nothing(tmp_path_factory, names, change):
    folder = tmp_path_factory.mktemp("same")
    names = {re.sub(r"(?<!\d)0+(?=\d)", "", " ".join(f"p{i}{name}".split())): None for i, name in enumerate(names)}
    rows = [
        {"subject": name, "visit": f"{j + 1}", "time": day, "score": f"{i + j}"}
        for i, name in enumerate(names)
        for j, day in enumerate(DAYS)
    ]
    spelt = {
        "decomposed": lambda row: row | {"subject": unicodedata.normalize("NFD", row["subject"])},
        "padded": lambda row: row | {"subject": f" {row['subject']}\u00a0", "score": f" {row['score']} "},
        "invisible": lambda row: row | {"subject": f"\u200b{row['subject']}"},
        "columns": lambda row: dict(reversed(row.items())),
        "slashes": lambda row: row | {"time": "/".join(reversed(row["time"].split("-")))},
        "compact": lambda row: row | {"time": row["time"].replace("-", "")},
        "points": lambda row: row | {"score": f"{row['score']}.0", "visit": f"{row['visit']}.0"},
    }.get(change, dict)
    form = {"slashes": "%d/%m/%Y", "compact": "%Y%m%d"}.get(change, "")
    dates = {"variables": {**SCORE, "day": {"column": "time", "roles": ["date"], "format": form}}}
    again = [spelt(row) for row in rows]
    if change == "rows":  # of each subject, in any order
        again = [row for i in range(0, len(rows), 3) for row in reversed(rows[i : i + 3])]
    changed = {"name": "other.csv"} if change == "file" else {}
    time = {"column": "time", "units": "date", "format": form}
    assert fingerprint(folder, again, **changed, **dates, time=time) == fingerprint(folder, rows, "first.csv")


@pytest.mark.parametrize("kind", READERS)
def test_where_the_files_lie_changes_nothing(kind, tmp_path):
    made = []
    for place in ("one", "another place"):
        folder = tmp_path / place
        folder.mkdir()
        reader, _ = clean(kind, 1, folder)
        ingest(reader, f"{tmp_path}/{place} store")
        made.append(open_cohort(f"{tmp_path}/{place} store"))
    assert made[0].fingerprint == made[1].fingerprint
    parts = [cohort.manifest["provenance"] for cohort in made]
    assert (parts[0]["settings"], parts[0]["files"]) == (parts[1]["settings"], parts[1]["files"])
