"""Correctors beside their plain definitions, and on whom they are fitted."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from scipy import stats
from sklearn.isotonic import IsotonicRegression

from framework.data.splits.split import Split
from framework.errors import UserError
from framework.forecast.calibration.calibrated import Calibrated
from framework.forecast.calibration.correctors import (
    Conformal,
    ConformalQuantiles,
    Isotonic,
    Recalibration,
    Temperature,
    subject_quantile,
)
from framework.forecast.predict import answers
from framework.forecast.references import LastVisit
from framework.types import LEVELS
from tests.cohorts import examples

Z = stats.norm.ppf(LEVELS)


def applied(calibrator, told, truth, subject=None, to=None):
    subject = np.arange(len(truth)) if subject is None else subject
    return np.asarray(calibrator.apply(calibrator.fit(told, truth, subject), (told if to is None else to)[None]))[0]


def test_temperature_undoes_overconfidence():
    rng = np.random.default_rng(0)
    true = rng.dirichlet([1, 1, 1], 4000)
    came = (true.cumsum(1) < rng.uniform(size=(4000, 1))).sum(1).clip(0, 2).astype(float)
    sharp = true**2 / (true**2).sum(1, keepdims=True)
    params = Temperature().fit(sharp, came, np.arange(4000))
    assert np.isclose(params["power"], 0.5, atol=0.03)
    told = applied(Temperature(), sharp, came)
    assert np.allclose(told.sum(1), 1, atol=1e-6)
    assert (np.argsort(told, 1) == np.argsort(sharp, 1)).all()


def test_isotonic_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    event = rng.uniform(size=300).round(2)
    came = (rng.uniform(size=300) < event**2).astype(float)
    told = applied(Isotonic(), np.stack([1 - event, event], 1), came)
    assert np.allclose(told[:, 1], IsotonicRegression().fit(event, came).predict(event), atol=1e-5)
    assert np.allclose(told.sum(1), 1, atol=1e-6)


def test_recalibration_finds_the_law_of_the_errors():
    rng = np.random.default_rng(2)
    middle, scale = rng.normal(size=20_000), rng.uniform(0.5, 2, 20_000)
    truth = middle + scale * (0.3 + 2 * rng.normal(size=20_000))  # told too narrow, and too low
    told = applied(Recalibration(), middle[:, None] + scale[:, None] * Z, truth)
    expected = middle[:, None] + scale[:, None] * (0.3 + 2 * Z)
    assert np.abs((told - expected) / scale[:, None]).max() < 0.12
    assert np.allclose((truth[:, None] < told).mean(0), LEVELS, atol=0.01)


def test_recalibration_where_quantiles_coincide():
    told = np.repeat([[1.0], [2.0], [3.0]], 5, axis=1)
    assert np.allclose(applied(Recalibration(), told, np.array([1.0, 5.0, 0.0])), told)


@pytest.mark.parametrize("calibrator", [Conformal(), ConformalQuantiles()])
def test_intervals_by_hand(calibrator):
    told = np.tile([-1.0, -0.5, 0, 0.5, 1], (19, 1))
    truth = np.arange(1.0, 20)  # of 19 and one to come, 90% are the 18 nearest, 50% the 10 nearest
    assert np.allclose(applied(calibrator, told, truth)[0], [-18, -10, 0, 10, 18])


def test_a_subject_counts_as_one_however_many_its_visits():
    score = np.r_[np.arange(1.0, 10), np.full(1000, 10.0)]
    subject = np.r_[np.arange(9), np.full(1000, 9)]
    assert subject_quantile(score, subject, 0.8) == 9.0  # 0.8 of 11 is 8.8
    assert subject_quantile(score, subject, 0.5) == 6.0
    with pytest.raises(UserError, match=r"10 subjects .* those of 95% need 19 or more"):
        subject_quantile(score, subject, 0.95)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    made = examples(tmp_path_factory.mktemp("cohort") / "c")
    return replace(made, layout=replace(made.layout, modalities=(), grids=()))


def test_fitted_on_those_set_aside_and_read_again(cohort, tmp_path):
    order = np.arange(12)
    split = Split(order < 5, (order >= 5) & (order < 9), order >= 9)
    seen = []

    class Noted(LastVisit):
        def fit_many(self, request):
            seen.extend(request.splits)
            return super().fit_many(request)

    recipe = Calibrated(Noted(False), Temperature(), Recalibration(), 0.5)
    fitted = recipe.fit(cohort, split, jax.random.key(1))
    assert np.array_equal(seen[0].train, split.train)
    assert (seen[0].validation & split.validation).sum() == 2
    told = answers(fitted, cohort, range(12), cohort.eval_queries)
    fitted.save(tmp_path)
    again = answers(recipe.load(tmp_path, cohort.layout), cohort, range(12), cohort.eval_queries)
    for name, answer in told.items():
        assert np.allclose(answer, again[name])
    with pytest.raises(UserError, match="got no validation subject"):
        recipe.fit(cohort, replace(split, validation=order < 0), jax.random.key(1))
    with pytest.raises(UserError, match=r"model\.classes is Conformal, which corrects numbers"):
        Calibrated(LastVisit(False), Conformal(), None, 0.5)
