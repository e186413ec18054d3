import numpy as np

from framework.data.cohort.characteristics import characteristics
from framework.data.cohort.dates import day, years
from framework.data.cohort.schema import Variable
from tests.cohorts import small, table


def test_counts_and_quarters_are_those_of_numpy(tmp_path):
    cohort = small(tmp_path)
    some = np.arange(len(cohort.subjects)) % 2 == 0
    told = characteristics(cohort, {"all": np.ones(len(some), bool), "even": some})
    assert [group["subjects"] for group in told["groups"]] == [len(some), some.sum()]
    assert told["groups"][1]["visits"] == cohort.valid[some].sum()
    last = np.array([t[v].max() for t, v in zip(cohort.times, cohort.valid, strict=True)])
    assert told["groups"][0]["followed"] == np.quantile(last, [0.5, 0.25, 0.75]).tolist()
    assert told["groups"][0]["longest"] == last.max()
    place = cohort.column("score")
    score = next(one for one in told["variables"] if one["name"] == "score")
    observed = cohort.observed[..., place] & cohort.valid
    assert score["groups"][0]["missing"] == (cohort.valid & ~observed).sum()
    first = [v[o][0] for v, o in zip(cohort.values[..., place], observed, strict=True) if o.any()]
    assert score["groups"][0]["quarters"] == np.quantile(first, [0.5, 0.25, 0.75]).tolist()


def test_levels_dates_and_what_nobody_has(tmp_path):
    variables = (
        Variable("stage", levels=("a", "b")),
        Variable("seen", roles=("date",)),
        Variable("never"),
    )
    series = {
        "s1": [(0.0, {"stage": "b", "seen": years("2010-05-06")}), (1.0, {"stage": "a"})],
        "s2": [(0.0, {}), (2.0, {"stage": "a", "seen": years("2012-01-02")})],
    }
    told = characteristics(table(tmp_path, variables, series), {"all": np.ones(2, bool)})
    assert told["dates"] == ["2010-05-06", "2012-01-02"]
    assert [one["name"] for one in told["variables"]] == ["stage", "never"]
    stage, never = (one["groups"][0] for one in told["variables"])
    assert stage == {"missing": 1, "of": 4, "counts": [1, 1]}
    assert never == {"missing": 4, "of": 4, "quarters": None}


def test_a_day_is_the_date_that_years_tells():
    for text in ("2000-01-01", "1999-12-31", "2024-02-29", "1931-07-15"):
        assert day(years(text)) == text
