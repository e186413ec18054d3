import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import datasets
from sklearn.linear_model import Ridge as Reference

from framework.baselines.linear import base
from framework.baselines.linear.ridge import Ridge
from framework.baselines.prepare import Prepared

KEY = jax.random.key(0)


def table(name):
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return x.astype(np.float32), np.ones(x.shape, bool), y.astype(np.float32)


@pytest.mark.parametrize("name", ["diabetes", "wine", "breast_cancer", "digits"])
def test_coefficients_are_scikit_learns_on_raw_features(name):
    x, seen, y = table(name)
    weight = np.random.default_rng(0).integers(0, 4, len(y)).astype(np.float32)
    fit = jax.jit(lambda penalty: Ridge(penalty).fit(x, seen, y, weight, key=KEY))
    for penalty in (1e-3, 1.0, 100.0):
        params = fit(penalty)
        reference = Reference(penalty).fit(x.astype(float), y, sample_weight=weight)
        told, expected = params.coef[:, 0] * x.std(0), reference.coef_ * x.std(0)
        np.testing.assert_allclose(told, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
        np.testing.assert_allclose(Ridge().predict(params, x, seen)[:, 0], reference.predict(x), atol=2e-3 * y.std())


def test_a_path_is_the_fits_one_by_one():
    x, seen, y = table("diabetes")
    penalties = np.array([10.0, 1e-3, 1.0, 1e4], np.float32)
    weight = np.ones(len(y), np.float32)
    path = Ridge().path(x, seen, y, weight, penalties)
    for at, penalty in enumerate(penalties):
        one = Ridge(float(penalty)).fit(x, seen, y, weight, key=KEY)
        np.testing.assert_allclose(path.coef[at], one.coef, rtol=1e-3, atol=1e-3 * np.abs(one.coef).max())


def test_lanes_of_folds_and_penalties_are_fits():
    x, seen, y = table("wine")
    fold = (np.arange(len(y)) % 2).astype(np.float32)
    weights = np.stack([fold, 1 - fold, fold, 1 - fold])
    penalty = np.array([1, 1, 50, 50], np.float32)
    model = Prepared(Ridge())
    keys = jax.random.split(KEY, 4)
    many = model.fit_many(x, seen, y, weights, keys=keys, settings={"penalty": penalty})
    for lane in range(4):
        one = model.given({"penalty": float(penalty[lane])}).fit(x, seen, y, weights[lane], key=KEY)
        np.testing.assert_allclose(many.inner.coef[lane], one.inner.coef, atol=1e-5)


def test_a_duplicated_and_a_constant_feature_share_and_get_nothing():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 2)).astype(np.float32)
    wide = np.stack([x[:, 0], x[:, 0], x[:, 1], np.full(50, 7, np.float32)], 1)
    params = Ridge(0.0).fit(wide, np.ones(wide.shape, bool), 3 * x[:, 0] + 2, np.ones(50, np.float32), key=KEY)
    np.testing.assert_allclose(params.coef[:, 0], [1.5, 1.5, 0, 0], atol=0.1)  # rounding decides how they share
    np.testing.assert_allclose(params.coef[:2].sum(), 3, rtol=1e-5)
    np.testing.assert_allclose(params.intercept, [2], atol=1e-4)


def test_rows_that_weigh_nothing_and_what_is_masked_are_not_read():
    x, seen, y = table("diabetes")
    weight = (np.arange(len(y)) % 3 > 0).astype(np.float32)
    seen = seen & (x > x.min(0))
    loud = np.where(seen & (weight > 0)[:, None], x, np.nan).astype(np.float32)
    mask = np.where((weight > 0)[:, None], seen, True)
    before = Ridge().fit(x, seen, y, weight, key=KEY)
    after = Ridge().fit(loud, mask, np.where(weight > 0, y, np.nan).astype(np.float32), weight, key=KEY)
    jax.tree.map(np.testing.assert_array_equal, before, after)


@pytest.mark.parametrize("rows", [1, 7, 8, 30])
def test_products_summed_over_blocks_of_rows_are_those_of_the_whole(monkeypatch, rows):
    monkeypatch.setattr(base, "BLOCK", 8)
    z, share = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32), np.linspace(0, 1, rows)
    np.testing.assert_allclose(base.gram_of(jnp.asarray(z), jnp.asarray(share)), (z * share[:, None]).T @ z, rtol=1e-5)
