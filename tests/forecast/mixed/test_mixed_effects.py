import dataclasses

import jax
import numpy as np
import pytest

from framework.data.queries.examples import Examples
from framework.data.splits.split import Split
from framework.errors import UserError
from framework.forecast.mixed.mixed_effects import MixedEffects
from framework.forecast.predict import answers
from framework.types import LEVELS
from tests.cohorts import examples

pytestmark = pytest.mark.long

KEY = jax.random.key(0)
RECIPE = MixedEffects(random_slopes=True, covariates=True, future_covariates=True)


def lines(tmp_path, subjects: int = 60) -> Examples:
    """Subjects on lines of their own, `score` and `volume` with noise 0.1, `stage` the third of the score."""
    made = examples(tmp_path / "c", subjects)
    old, rng = made.cohort, np.random.default_rng(0)
    level, slope = rng.normal(0, 2, (subjects, 1)), rng.normal(1, 0.7, (subjects, 1))
    score = 20 + level + slope * old.times + rng.normal(0, 0.1, old.times.shape)
    values = old.values.copy()
    values[..., 0], values[..., 1], values[..., 2] = score, np.clip((score - 17) // 3, 0, 2), 2 * score
    observed = old.observed | old.valid[..., None]
    return dataclasses.replace(made, cohort=dataclasses.replace(old, values=values, observed=observed))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made = lines(tmp_path_factory.mktemp("lines"))
    place = np.arange(60)
    split = Split(place < 36, (place >= 36) & (place < 40), place >= 40)
    fitted = RECIPE.fit(made, split, KEY)
    rows = np.flatnonzero(split.test)
    return made, fitted, split, rows, answers(fitted, made, [*map(int, rows)], made.eval_queries)


def test_a_line_seen_three_times_goes_on_and_covers_as_often_as_it_says(study):
    made, _, _, rows, told = study
    truth, query = made.eval_queries.truth["score"], made.eval_queries.query
    asks = (truth.observed & query.valid)[rows]
    error = np.abs(told["score"][..., 2] - truth.value[rows])
    late = asks & (query.origin[rows] >= 2)
    assert np.median(error[late]) < 0.25 < 1 < error[asks & (query.origin[rows] == 0)].mean()
    inside = (truth.value[rows, :, None] <= told["score"][..., : len(LEVELS)]) & asks[..., None]
    np.testing.assert_allclose(inside.sum((0, 1)) / asks.sum(), LEVELS, atol=0.15)


def test_levels_are_told_about_as_often_as_they_come(study):
    made, _, _, rows, told = study
    truth, query = made.eval_queries.truth["stage"], made.eval_queries.query
    asks = (truth.observed & query.valid)[rows]
    level = truth.value[rows][asks].astype(int)
    probs = told["stage"][asks]
    np.testing.assert_allclose(probs.mean(0), np.bincount(level, minlength=3) / len(level), atol=0.1)
    often = np.bincount(level, minlength=3) / len(level)
    assert -np.log(probs[np.arange(len(level)), level]).mean() < 0.8 * -(often * np.log(often)).sum()


def test_a_target_whose_history_is_no_input_is_told_by_the_population(study):
    made, fitted, _, rows, told = study
    other = dataclasses.replace(made.cohort, values=made.cohort.values + np.array([0, 0, 9, 0, 0]))
    again = answers(fitted, dataclasses.replace(made, cohort=other), [*map(int, rows)], made.eval_queries)
    np.testing.assert_array_equal(again["volume"], told["volume"])


def test_what_a_new_subject_brings_widens_nothing_but_what_is_far_ahead(study):
    """The 90% interval is narrower the more was seen, and wider the further ahead."""
    made, _, _, rows, told = study
    query = made.eval_queries.query
    width = told["score"][..., len(LEVELS) - 1] - told["score"][..., 0]
    asks, origin = query.valid[rows], query.origin[rows]
    assert width[asks & (origin == 0)].min() > width[asks & (origin >= 2)].mean()


def test_too_few_who_are_known_are_refused(tmp_path):
    made = examples(tmp_path / "c")
    only = np.arange(12) < 1
    with pytest.raises(UserError, match="score is known of 1 training subjects; mixed effects need 2 or more"):
        RECIPE.fit(made, Split(only, ~only & False, ~only), KEY)
