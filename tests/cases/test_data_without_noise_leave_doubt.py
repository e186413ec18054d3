"""A progression model of scores without any noise was certain of what was wrong by 3.2 points.

A variance that degenerates, as in https://github.com/statsmodels/statsmodels/pull/10242.
"""

import jax
import numpy as np
import pytest

from framework.baselines.mixed.mixed_effects import LEAST
from framework.data.cohort.schema import Variable
from framework.data.queries.examples import Examples
from framework.data.queries.layout import layout
from framework.data.splits.split import Split
from framework.forecast.mixed.mixed_effects import MixedEffects
from framework.forecast.mixed.progression import DiseaseProgression
from framework.forecast.predict import answers
from framework.types import LEVELS
from tests.cohorts import table

KEY = jax.random.key(0)
SPLIT = Split(np.arange(20) < 15, np.zeros(20, bool), np.arange(20) >= 15)
MODELS = {"mixed_effects": MixedEffects(True, True, True), "progression": DiseaseProgression(True, True, True, 5, 60)}


def study(folder, noise: float) -> Examples:
    """Twenty patients of four visits who lose two points a year."""
    rng = np.random.default_rng(0)
    series = {
        f"s{i:02}": [(float(t), {"score": 10.0 - 2 * t + noise * rng.normal()}) for t in range(4)] for i in range(20)
    }
    cohort = table(folder, (Variable("score", ("input", "target"), "points"),), series)
    return Examples(cohort, layout(cohort.schema, ["score"]))


@pytest.mark.parametrize("name", MODELS)
def test_a_course_without_noise_is_forecast_right_and_not_with_certainty(tmp_path, name):
    one, rows = study(tmp_path / "c", 0.0), range(15, 20)
    fitted = MODELS[name].fit(one, SPLIT, KEY)
    told, truth = (
        answers(fitted, one, rows, one.eval_queries)["score"],
        one.eval_queries.truth["score"].value[15:, :, None],
    )
    assert np.abs(told[..., [LEVELS.index(0.5)]] - truth).max() < 0.1
    least = 2 * 1.6 * LEAST * np.std([10, 8, 6, 4])  # the width of 90% of a normal whose spread is the least
    assert (told[..., len(LEVELS) - 1] - told[..., 0] > 0.9 * least).all()
    assert ((told[..., [0]] <= truth) & (truth <= told[..., [len(LEVELS) - 1]])).all()
    assert any("no noise was left" in note or "did not converge" in note for note in fitted.notes)


@pytest.mark.parametrize("name", MODELS)
def test_a_course_with_noise_has_nothing_to_warn_of(tmp_path, name):
    assert list(MODELS[name].fit(study(tmp_path / "c", 0.3), SPLIT, KEY).notes) == []
