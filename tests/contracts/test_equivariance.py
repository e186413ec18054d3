"""Units and zero points are conventions: another of either is the same forecast in other words."""

import dataclasses
from functools import cache

import jax
import numpy as np
import pytest

from framework.data.cohort.schema import Variable
from framework.data.queries.examples import Examples
from framework.data.queries.layout import layout
from framework.data.splits.split import Split
from framework.forecast.predict import answers
from tests.cohorts import table
from tests.contracts.recipes import forecaster

KEY = jax.random.key(0)
N = 16
SPLIT = Split(np.arange(N) < 10, (np.arange(N) >= 10) & (np.arange(N) < 12), np.arange(N) >= 12)
MODELS = (
    "last_visit",
    "slope",
    "ridge",
    "quantile",
    "svm",
    "forest",
    "boosting",
    "mixed_effects",
    "progression",
    "gru",
)
FAR, HUGE, TINY = (3e4, 1.0), (0.0, 1e6), (0.0, 1e-6)  # 3e4: ten thousand standard deviations
WORDS = {"offset": FAR, "times a million": HUGE, "a millionth": TINY}
# float32 resolves .002 of a value at that offset; whatever chooses (trees' bins, candidates) may choose otherwise there
LOOSE = {"offset": 2e-2, "times a million": 1e-3, "a millionth": 1e-3}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Examples:
    rng = np.random.default_rng(0)
    series = {}
    for i in range(N):
        start, slope = rng.normal(0, 3), rng.normal(-1, 0.5)
        times = np.cumsum([0, *rng.uniform(0.5, 1.5, 3)])
        series[f"s{i:02}"] = [
            (float(t), {"score": start + slope * t + rng.normal(0, 0.5), "marker": start + rng.normal()}) for t in times
        ]
    variables = (Variable("score", ("input", "target"), "points"), Variable("marker", ("input",)))
    cohort = table(tmp_path_factory.mktemp("cohort") / "c", variables, series)
    return Examples(cohort, layout(cohort.schema, ["score"]))


def retold(study: Examples, column: int, offset: float, factor: float) -> Examples:
    values = np.array(study.cohort.values)
    values[..., column] = np.where(study.cohort.observed[..., column], offset + factor * values[..., column], 0)
    return dataclasses.replace(study, cohort=dataclasses.replace(study.cohort, values=values))


def told(name: str, study: Examples) -> np.ndarray:
    fitted = forecaster(name).fit(study, SPLIT, KEY)
    return answers(fitted, study, range(N), study.eval_queries)["score"][study.eval_queries.query.valid]


@pytest.fixture(scope="module")
def plain(study):
    return cache(lambda name: told(name, study))


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("name", MODELS)
def test_a_target_in_other_units_is_forecast_in_them(study, plain, name, words):
    offset, factor = WORDS[words]
    found = (told(name, retold(study, 0, offset, factor)) - offset) / factor
    np.testing.assert_allclose(found, plain(name), atol=LOOSE[words] * plain(name).std())


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("name", MODELS[2:])
def test_an_input_in_other_units_changes_no_forecast(study, plain, name, words):
    found = told(name, retold(study, 1, *WORDS[words]))
    np.testing.assert_allclose(found, plain(name), atol=LOOSE[words] * plain(name).std())
