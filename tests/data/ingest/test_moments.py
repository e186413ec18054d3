"""Times told once per subject, written as the visits' own are: as dates, or in units since any origin."""

from typing import Any

import pytest

from framework.data.ingest.table import Table
from framework.errors import UserError


def table(tmp_path, lines: list[str], units: str, where: str = "static", **spec) -> Table:
    (tmp_path / "t.csv").write_text("\n".join(["id,when,score,died", *lines]) + "\n")
    death = {"column": "died", "roles": ["hindsight"], "is_event_time": True} | spec
    maps: dict[str, Any] = {"variables": {"score": {}}, "static": {}}
    maps[where]["death"] = death
    return Table(str(tmp_path / "t.csv"), "id", {"column": "when", "units": units}, **maps)


@pytest.mark.parametrize(
    ("units", "lines"),
    [
        ("date", ["a,2020-01-01,1,", "a,2021-01-01,1,2025-01-01", "b,2020-06-01,2,"]),
        ("days", ["a,100,1,1926.25", "a,465.25,1,", "b,0,2,"]),
        ("date", ["a,2019-01-01,,2025-01-01", "a,2020-01-01,1,", "b,2020-06-01,2,"]),  # nothing measured at the first
    ],
)
def test_a_time_counts_from_the_first_visit_that_is_used(tmp_path, units, lines):
    read = table(tmp_path, lines, units).read()
    told = {subject.id: subject.static["death"] for subject in read.subjects}
    assert told["a"] == pytest.approx(5, abs=0.01)
    assert told["b"] is None
    assert read.schema.static[0].units == "years"


@pytest.mark.parametrize(
    ("complaint", "lines", "settings"),
    [
        (r"'a'\): death .*'died'\) is no time as the visits' 'when' has it", ["a,2020-01-01,1,soon"], {}),
        ("death has is_event_time, which is recorded once per subject", [], {"where": "variables"}),
        ("takes no levels, bounds", [], {"bounds": [0, 1]}),
    ],
)
def test_what_is_no_such_time_is_one_line(tmp_path, complaint, lines, settings):
    with pytest.raises(UserError, match=complaint) as error:
        list(table(tmp_path, lines, "date", **settings).read().subjects)
    assert "soon" not in str(error.value)
