"""Fits that stop before they solve their problem say so, and those that solve it say nothing."""

import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from framework.baselines import sklearn_api as api
from framework.baselines.linear.logistic import Logistic
from framework.baselines.linear.quantile import Quantile
from framework.baselines.linear.ridge import Ridge
from framework.baselines.prepare import Prepared
from framework.baselines.survival.cox import Cox, Survival
from framework.baselines.svm.svm import SVM

KEY = jax.random.key(0)


def rows(classes: int):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3)).astype("f4")
    score = x @ np.array([1.0, -2.0, 0.5]) + rng.normal(size=40)
    y = (score > 0).astype("i4") if classes else score.astype("f4")
    return x, np.ones(x.shape, bool), y, np.ones(40, "f4")


STOPPED = {  # estimators that can be stopped by their steps
    "logistic": Logistic(2),
    "logistic, l1": Logistic(2, l1_ratio=0.5),
    "prepared logistic": Prepared(Logistic(2)),
    "quantile": Quantile((0.25, 0.75)),
}


@pytest.mark.parametrize("name", STOPPED)
def test_a_fit_out_of_steps_says_that_it_did_not_converge(name):
    whole = STOPPED[name]
    short = (
        replace(whole, inner=replace(whole.inner, steps=1)) if isinstance(whole, Prepared) else replace(whole, steps=1)
    )
    table = rows(whole.classes)
    assert whole.shortfall(whole.fit(*table, key=KEY)) == ""
    assert "did not converge" in short.shortfall(short.fit(*table, key=KEY))
    many = short.fit_many(*table[:3], np.stack([table[3]] * 2), keys=jax.random.split(KEY))
    assert "did not converge" in short.shortfall(many)


def test_cox_regression_out_of_steps_says_so():
    x, observed, y, weight = rows(0)
    survival = Survival(jnp.exp(jnp.asarray(y)), jnp.arange(40) % 3 > 0)
    for steps, short in ((100, False), (1, True)):
        cox = Cox(penalty=0.1, steps=steps)
        assert ("did not converge" in cox.shortfall(cox.fit(x, observed, survival, weight, key=KEY))) is short


@pytest.mark.parametrize("one", [Ridge(), SVM(2), SVM(0, folds=0)], ids=["ridge", "svm", "svm, number"])
def test_what_was_solved_is_said_to_be_and_what_was_not_is_not(one):
    params = one.fit(*rows(one.classes), key=KEY)
    assert one.shortfall(params) == ""
    assert "did not converge" in one.shortfall(replace(params, converged=jnp.array(False)))


def test_scikit_learns_classes_warn_as_its_own_do(monkeypatch):
    x, _, y, _ = rows(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        api.QuantileRegressor(alpha=0.1).fit(x, y)
    monkeypatch.setattr(api.QuantileRegressor, "_estimator", lambda *_: Quantile((0.5,), steps=1))
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        api.QuantileRegressor().fit(x, y)
