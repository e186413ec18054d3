"""Boosting: both growers answer alike, a tree is the best by hand, and the laws."""

import jax
import numpy as np
import pytest

from framework.baselines import boosting
from framework.baselines.boosting import Boosting
from framework.errors import UserError


def table(n=200, f=6, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, f)).astype("f4")
    x[:, 2] = rng.integers(0, 5, n)
    observed = rng.random((n, f)) > 0.1
    score = x[:, 0] + np.where(x[:, 2] % 2, 1, -1) + 0.3 * rng.normal(size=n)
    weight = rng.random(n).astype("f4")
    weight[::5] = 0
    return x, observed, score.astype("f4"), weight


def leaves(tree):
    return [np.asarray(part) for part in jax.tree.leaves(tree)]


def same(a, b):
    return all(np.array_equal(one, other, equal_nan=True) for one, other in zip(leaves(a), leaves(b), strict=True))


@pytest.mark.parametrize(
    "how",
    [{"categories": (0, 0, 5, 0, 0, 0)}, {"max_depth": 2, "l2": 0.0, "bins": 16, "features": 0.5, "rows": 0.7}],
)
def test_both_growers_grow_the_same_trees(how, monkeypatch):
    if not boosting.native.available():
        pytest.skip("no native kernels here")
    x, observed, score, weight = table()
    recipe = Boosting(classes=2, rounds=4, max_leaves=8, **how)
    native = recipe.fit(x, observed, (score > 0).astype(int), weight, key=jax.random.key(0))
    monkeypatch.setattr(boosting.native, "available", lambda: False)
    jax.clear_caches()
    xla = recipe.fit(x, observed, (score > 0).astype(int), weight, key=jax.random.key(0))
    jax.clear_caches()
    assert same(native, xla)


def test_a_stump_is_the_best_of_all():
    x, _, score, weight = table()
    seen = np.ones(x.shape, bool)
    recipe = Boosting(rounds=1, max_leaves=2, learning_rate=1.0, l2=0.0)
    params = recipe.fit(x, seen, score, weight, key=jax.random.key(0))
    found = np.asarray(recipe.predict(params, x, seen))[:, 0]

    def best():
        for column in x.T:
            for cut in np.unique(column[weight > 0])[:-1]:
                left = column <= cut
                means = [np.average(score[side], weights=weight[side]) for side in (left, ~left)]
                if min(weight[left].sum(), weight[~left].sum()) >= 1:
                    yield np.average((score - np.where(left, *means)) ** 2, weights=weight)

    assert np.average((score - found) ** 2, weights=weight) == pytest.approx(min(best()), rel=1e-3)


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_training_loss_falls_and_rows_of_no_weight_change_nothing(classes):
    x, observed, score, weight = table()
    y = np.digitize(score, np.linspace(-0.5, 0.5, classes - 1)) if classes else score
    recipe = Boosting(classes=classes, rounds=8, learning_rate=0.05, max_leaves=8)
    params = recipe.fit(x, observed, y, weight, key=jax.random.key(0))
    assert (np.diff(params.train_loss) < 0).all()
    out = weight == 0
    changed, other = x.copy(), y.copy()
    changed[out], other[out] = np.nan, 0
    assert same(params, recipe.fit(changed, observed, other, weight, key=jax.random.key(0)))
    probs = np.asarray(recipe.predict(params, x, observed))
    assert classes == 0 or np.allclose(probs.sum(1), 1, atol=1e-5)


def test_quantiles_cover_their_share_and_ascend():
    x, observed, score, _ = table()
    recipe = Boosting(loss="quantile", levels=(0.1, 0.5, 0.9), rounds=20, max_leaves=4)
    params = recipe.fit(x, observed, score, np.ones(len(x), "f4"), key=jax.random.key(0))
    found = np.asarray(recipe.predict(params, x, observed))
    assert (np.diff(found, axis=1) >= 0).all()
    np.testing.assert_allclose((score[:, None] <= found).mean(0), [0.1, 0.5, 0.9], atol=0.07)


def test_rounds_end_at_the_best():
    x, observed, score, weight = table()
    recipe = Boosting(classes=2, rounds=60, learning_rate=0.5, validation=0.3, patience=3)
    params = recipe.fit(x, observed, (score > 0).astype(int), weight, key=jax.random.key(0))
    kept, history = int(params.kept), np.asarray(params.validation_loss)
    assert np.isnan(history[kept + 3 :]).all()
    assert np.nanargmin(history) == kept - 1
    assert (np.asarray(params.trees.feature)[kept:] == -1).all()


def test_lanes_are_fits():
    x, observed, score, weight = table()
    recipe = Boosting(rounds=3, max_leaves=4)
    keys, rates = jax.random.split(jax.random.key(0), 2), np.array([0.1, 0.3], "f4")
    many = recipe.fit_many(x, observed, score, np.stack([weight] * 2), keys=keys, settings={"learning_rate": rates})
    one = recipe.given({"learning_rate": float(rates[1])}).fit(x, observed, score, weight, key=keys[1])
    for lane, alone in zip(leaves(many), leaves(one), strict=True):
        np.testing.assert_allclose(lane[1], alone, rtol=1e-6)


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match="loss=logistic of 3 levels"):
        Boosting(classes=3, loss="logistic")
