"""Every estimator of framework.baselines obeys the laws, and each law is broken by an estimator made to break it."""

import inspect
import pkgutil
from dataclasses import dataclass
from functools import partial
from importlib import import_module

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import framework.baselines
from framework.baselines.base import Estimator
from framework.baselines.linear.logistic import Logistic
from framework.baselines.linear.quantile import Quantile
from framework.baselines.linear.ridge import Ridge
from framework.baselines.prepare import Prepared
from framework.baselines.svm.svm import SVM
from framework.baselines.trees.boosting import Boosting
from framework.baselines.trees.forest import Forest
from tests.contracts import estimator_laws as laws
from tests.contracts.estimator_laws import Trial

TRIALS = {  # every estimator of the framework, small
    "ridge": Trial(Ridge()),
    "ridge, free": Trial(Ridge(penalty=0.0), unpenalised=True),
    "logistic": Trial(Logistic(3)),
    "logistic, two": Trial(Logistic(2, l1_ratio=0.5)),
    "prepared ridge": Trial(Prepared(Ridge(penalty=0.0), missing_indicators=False), unpenalised=True),
    "prepared logistic": Trial(Prepared(Logistic(3), missing_indicators=True)),
    "quantile": Trial(Quantile((0.25, 0.75), steps=500)),
    "boosting": Trial(Boosting(3, rounds=5, min_samples_leaf=1)),
    "boosting, number": Trial(Boosting(0, rounds=5, min_samples_leaf=1)),
    "boosting, quantiles": Trial(
        Boosting(0, loss="quantile", levels=(0.25, 0.75), rounds=5, rows=0.7, min_samples_leaf=1), random=True
    ),
    "forest": Trial(Forest(3, trees=4), random=True),
    "forest, number": Trial(Forest(0, trees=4), random=True),
    "extra trees": Trial(Forest(3, trees=4, extra=True)),
    "extra trees, number": Trial(Forest(trees=4, extra=True)),
    "svm": Trial(SVM(3), random=True),
    "svm, number": Trial(SVM(0, C=10.0, tolerance=1e-5)),
    "prepared svm": Trial(Prepared(SVM(2), missing_indicators=False), random=True),
}
SETTINGS = {
    "ridge": {"penalty": (1.0, 50.0)},
    "logistic": {"penalty": (1.0, 50.0)},
    "prepared logistic": {"penalty": (1.0, 50.0)},
    "boosting": {"learning_rate": (0.1, 0.5)},
    "quantile": {"penalty": (1.0, 50.0)},
    "forest": {"min_samples_leaf": (1.0, 8.0)},
    "svm": {"C": (0.1, 10.0), "gamma": (0.1, 1.0)},
    "prepared svm": {"C": (0.1, 10.0)},
}


def every_estimator() -> set[type]:
    """The concrete estimators that the modules of framework.baselines define."""
    found: set[type] = set()
    for module in pkgutil.walk_packages(framework.baselines.__path__, "framework.baselines."):
        if not module.ispkg and ".sklearn_api." not in module.name:
            members = inspect.getmembers(import_module(module.name), inspect.isclass)
            found |= {of for _, of in members if issubclass(of, Estimator) and not inspect.isabstract(of)}
    return found


def test_every_estimator_is_tried():
    assert {type(trial.estimator) for trial in TRIALS.values()} == every_estimator()


@pytest.mark.parametrize(
    ("name", "law"),
    [
        pytest.param(name, law, id=f"{name}-{law.__name__}")
        for name, trial in TRIALS.items()
        for law in laws.held_to(trial)
    ],
)
def test_law(name, law):
    law(TRIALS[name])


@pytest.mark.parametrize("name", TRIALS)
def test_a_lane_of_fit_many_is_fit(name):
    laws.a_lane_is_a_fit(TRIALS[name], SETTINGS.get(name, {}))


@pytest.mark.parametrize("name", {**{name: None for name in SETTINGS}, "forest, number": None, "quantile": None})
def test_a_grid_answers_as_its_fits_do(name):
    laws.a_grid_answers_as_its_fits_do(TRIALS[name], SETTINGS.get(name, {}))


@dataclass(frozen=True)
class Lawful(Estimator):
    """How often each level came, or the mean, by the sign of each feature that was observed; broken below."""

    classes: int = 3
    shrink: float = 0.0
    DYNAMIC = ("shrink",)

    def fit(self, x, observed, y, weight, *, key):
        counts = weight > 0
        sign = self._signs(x, observed) * counts[:, None, None]
        sign = jnp.where(counts[:, None, None], sign, 0)
        answer = self._answer(y) * jnp.where(counts, 1, 0)[:, None]
        total = jnp.einsum("nfs,n,np->fsp", sign, weight, answer)
        return total / (jnp.einsum("nfs,n->fs", sign, weight)[..., None] + 1e-3 + self.shrink)

    def predict(self, params, x, observed):
        told = jnp.einsum("nfs,fsp->np", self._signs(x, observed), params) + 1e-3
        return told / told.sum(1, keepdims=True)

    def _signs(self, x, observed):
        x = jnp.where(observed, x, 0)
        return jax.nn.one_hot(jnp.where(observed, (x > 0) + 1, 0), 3)

    def _answer(self, y):
        return jax.nn.one_hot(y.astype(int), self.classes)


class CountsRowsOfNoWeight(Lawful):
    def fit(self, x, observed, y, weight, *, key):
        return super().fit(x, observed, y, weight, key=key) + jnp.where(observed, 1.0, 0).mean()


class LearnsNothing(Lawful):
    def fit(self, x, observed, y, weight, *, key):
        return jnp.ones((laws.F, 3, self.classes))


class TakesWeightsForMasks(Lawful):
    def fit(self, x, observed, y, weight, *, key):
        return super().fit(x, observed, y, jnp.sign(weight), key=key) * 1.0


class ReadsUnderTheMask(Lawful):
    def _signs(self, x, observed):
        return super()._signs(x, observed | True)


class DiffersWhenCompiled(Lawful):
    def predict(self, params, x, observed):
        return super().predict(params + isinstance(x, jax.core.Tracer), x, observed)


class HangsOnTheOrder(Lawful):
    def fit(self, x, observed, y, weight, *, key):
        return super().fit(x, observed, y, weight * jnp.arange(len(weight)), key=key)


class LooksAtTheData(Lawful):
    def fit(self, x, observed, y, weight, *, key):
        return super().fit(x, observed, y, weight, key=key) if weight.sum() > 0 else 0.0


class HalvesPrecision(Lawful):
    def predict(self, params, x, observed):
        return super().predict(params, x, observed).astype(jnp.float16)


class MixesPrecisions(Lawful):
    def fit(self, x, observed, y, weight, *, key):
        params = super().fit(x, observed, y, weight, key=key)
        return jax.lax.fori_loop(0, 2, lambda _, at: at.astype(weight.dtype) + 0, params.astype(jnp.float32))


class CountsTheTotal(Lawful):
    def fit(self, x, observed, y, weight, *, key):
        return super().fit(x, observed, y, weight, key=key) + weight.sum() / 50


class SumsToMore(Lawful):
    def predict(self, params, x, observed):
        return 2 * super().predict(params, x, observed)


class DividesByNothing(Lawful):
    def fit(self, x, observed, y, weight, *, key):
        return super().fit(x, observed, y, weight, key=key) + 0 / jnp.std(y)


class SharesItsFirstLane(Lawful):
    def fit_many(self, x, observed, y, weights, *, keys, settings=None):
        return super().fit_many(x, observed, y, weights[:1].repeat(len(weights), 0), keys=keys, settings=settings)


class AnswersForOneFitAlone(Lawful):
    def answer_grid(self, x, observed, y, weight, *, key, settings):
        answer = super().answer_grid(x, observed, y, weight, key=key, settings=settings)
        return jnp.concatenate([answer, answer])[1:3] * 0.9


class ForgetsItsSettings(Lawful):
    def given(self, settings):
        return self


LANE = partial(laws.a_lane_is_a_fit, settings={"shrink": (0.0, 9.0)})
LANE.__name__ = "a_lane_is_a_fit"
GRID = partial(laws.a_grid_answers_as_its_fits_do, settings={"shrink": (0.0, 9.0)})
GRID.__name__ = "a_grid_answers_as_its_fits_do"


@pytest.mark.parametrize(
    ("law", "broken"),
    [
        (laws.rows_of_no_weight_change_nothing, CountsRowsOfNoWeight),
        (laws.learns_from_rows_that_weigh, LearnsNothing),
        (laws.learns_from_rows_that_weigh, TakesWeightsForMasks),
        (laws.deaf_to_what_is_masked, ReadsUnderTheMask),
        (laws.rows_of_no_weight_might_be_absent, CountsRowsOfNoWeight),
        (laws.the_same_compiled, DiffersWhenCompiled),
        (laws.the_order_of_rows_does_not_matter, HangsOnTheOrder),
        (laws.traced_from_shapes_alone, LooksAtTheData),
        (laws.single_precision, HalvesPrecision),
        (laws.double_precision_is_no_accident, MixesPrecisions),
        (laws.twice_the_weight_is_the_same, CountsTheTotal),
        (laws.forecasts_are_forecasts, SumsToMore),
        (laws.forecasts_are_forecasts, DividesByNothing),
        (LANE, SharesItsFirstLane),
        (LANE, ForgetsItsSettings),
        (GRID, AnswersForOneFitAlone),
        (GRID, ForgetsItsSettings),
    ],
    ids=lambda f: f.__name__,
)
def test_a_broken_estimator_is_caught(law, broken):
    law(Trial(Lawful(), unpenalised=True))
    with pytest.raises((AssertionError, TypeError)):
        law(Trial(broken(), unpenalised=True))


def test_the_rows_under_test_are_what_the_laws_say():
    rows = laws.table(3)
    assert (rows.weight == 0).any()
    assert not rows.observed.all()
    assert set(rows.y) == {0, 1, 2}
    assert np.isnan(laws.noise_in(rows, rows.weight == 0, 3).x).any()
