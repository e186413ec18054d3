"""Three re-tests an hour after a visit once distorted the forecasts of everybody: a rate of 7000 points a year.

Reported of FreeSurfer's and OASIS-3's sessions some days apart: https://github.com/bids-apps/freesurfer/issues/11.
"""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.data.cohort.schema import Variable
from framework.data.queries.events import ThresholdReached
from framework.data.queries.examples import Examples
from framework.data.queries.layout import layout
from framework.data.splits.split import Split
from framework.forecast.predict import answers
from framework.forecast.references import LastVisit
from framework.forecast.tabular.history_features import feature_names
from framework.forecast.tabular.training_table import tabulate
from framework.history import rates
from framework.types import RESOLUTION
from tests.cohorts import table

KEY = jax.random.key(0)
HOUR = 1 / 365.25 / 24
VARIABLES = (Variable("score", ("input", "target"), "points"), Variable("x", ("input",)))


def study(folder, later: float | None) -> Examples:
    """Forty patients who decline at rates of their own; three of them are tested again so much later."""
    rng = np.random.default_rng(0)
    again = {(3, 1): 0.8, (17, 0): -1.0, (25, 2): 0.7}
    series = {}
    for i in range(40):
        start, slope, time, visits = 25 + rng.normal(0, 3), -1 - abs(rng.normal(0, 0.7)), 0.0, []
        for j in range(4):
            measured = {"score": start + slope * time + rng.normal(0, 0.5), "x": rng.normal()}
            visits.append((time, measured))
            if later is not None and (i, j) in again:
                visits.append((time + later, measured | {"score": measured["score"] + again[i, j]}))
            time += rng.uniform(0.5, 1.5)
        series[f"s{i:02}"] = visits
    cohort = table(folder, VARIABLES, series)
    return Examples(cohort, layout(cohort.schema, ["score"]))


def spread(one: Examples) -> float:
    """That of the rates which a linear model standardises by."""
    table = tabulate(one, one.layout)
    place = feature_names(one.layout).index("score a year")
    return float(np.asarray(table.x)[np.asarray(table.observed)[:, place], place].std())


def test_the_rates_of_the_others_keep_their_scale(tmp_path):
    """It was 1 point a year, and 700 with the three re-tests: standardised, the rates of all others vanished."""
    plain, hour = spread(study(tmp_path / "plain", None)), spread(study(tmp_path / "hour", HOUR))
    assert hour == pytest.approx(plain, rel=0.2)


def test_tests_an_hour_apart_tell_no_slope(tmp_path):
    series = {f"s{i}": [(0.0, {"score": 10.0}), (HOUR, {"score": 11.0})] for i in range(6)}
    cohort = table(tmp_path / "c", VARIABLES, series)
    one = Examples(cohort, layout(cohort.schema, ["score"]))
    split = Split(np.arange(6) < 4, np.zeros(6, bool), np.arange(6) >= 4)
    learnt = LastVisit(trend=True).fit(one, split, KEY).learnt["score"]
    assert abs(learnt.slope) < 1


def test_the_rate_of_an_event_is_finite_where_nobody_is_followed(tmp_path):
    """Learnt inside an ensemble, from subjects who have had the event: 0 events in 0 years."""
    rise = ThresholdReached(variable="stage", level="high", horizons=(1.0,))
    variables = (Variable("stage", ("input", "target"), levels=("low", "high"), ordered=True),)
    series = {f"s{i}": [(0.0, {"stage": "high" if i < 4 else "low"}), (1.0, {"stage": "high"})] for i in range(6)}
    cohort = table(tmp_path / "c", variables, series)
    one = Examples(cohort, layout(cohort.schema, ["rise"], (), {"rise": rise}), events={"rise": rise})
    split = Split(np.arange(6) < 4, np.zeros(6, bool), np.arange(6) >= 4)
    for trend in (True, False):
        told = answers(LastVisit(trend).fit(one, split, KEY), one, range(6), one.eval_queries)["rise"]
        assert np.isfinite(told).all()


def seen(times, values) -> np.ndarray:
    shape = (1, len(times), 1)
    made, there = rates(np.reshape(values, shape), np.ones(shape, bool), np.array([times]), RESOLUTION)
    return np.where(there, made, np.nan)[0, :, 0]


def test_a_rate_passes_over_a_visit_measured_again():
    found = seen([0.0, 1.0, 1.0 + HOUR, 2.0], [10.0, 8.0, 8.5, 6.0])
    np.testing.assert_allclose(found, [np.nan, -2, -1.5, -2.5], rtol=1e-3)


@given(gap=st.floats(0, 0.05), change=st.floats(-50, 50))
def test_a_rate_is_bounded_however_short_the_gap(gap, change):
    found = seen([0.0, gap], [0.0, change])[1]
    assert abs(found) <= abs(change) / RESOLUTION
    assert abs(found) <= 2 * abs(change) * gap / RESOLUTION**2 + 1e-6


def test_ordinary_visits_tell_the_last_change_a_year():
    times, values = np.cumsum([0, 0.5, 0.08, 1.1]), [3.0, 1.0, 4.0, 1.5]
    np.testing.assert_allclose(seen(times, values)[1:], np.diff(values) / np.diff(times), rtol=1e-5)
