"""Boosting: both growers answer alike, a tree is the best by hand, and the laws."""

import jax
import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.ensemble import HistGradientBoostingClassifier

from framework.baselines.trees import boosting
from framework.baselines.trees.boosting import Boosting
from framework.errors import UserError

KEY = jax.random.key(0)


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
    recipe = Boosting(2, rounds=4, max_leaves=8, **how)
    native = recipe.fit(x, observed, (score > 0).astype(int), weight, key=KEY)
    monkeypatch.setattr(boosting.native, "available", lambda: False)
    with jax.default_matmul_precision("highest"):  # nothing on a CPU, but no program compiled before is taken, nor kept
        xla = recipe.fit(x, observed, (score > 0).astype(int), weight, key=KEY)
    assert same(native, xla)


@pytest.mark.parametrize("rows", [1, 90])
def test_a_stump_is_the_best_of_all(rows):
    x, _, score, _ = table()
    seen, even = np.ones(x.shape, bool), np.ones(len(x), "f4")
    recipe = Boosting(rounds=1, max_leaves=2, learning_rate=1.0, l2=0.0, min_samples_leaf=rows)
    found = np.asarray(recipe.predict(recipe.fit(x, seen, score, even, key=KEY), x, seen))[:, 0]

    def best():
        for column in x.T:
            for cut in np.unique(column)[:-1]:
                left = column <= cut
                if rows <= left.sum() <= len(x) - rows:
                    yield np.mean((score - np.where(left, score[left].mean(), score[~left].mean())) ** 2)

    assert np.mean((score - found) ** 2) == pytest.approx(min(best()), rel=1e-3)
    assert np.unique(found, return_counts=True)[1].min() >= rows


def test_a_stump_on_absolute_errors_answers_medians():
    x, score = np.repeat([0.0, 1.0], 50)[:, None].astype("f4"), table(100)[2]
    recipe = Boosting(loss="absolute", rounds=1, max_leaves=2, learning_rate=1.0)
    found = recipe.predict(recipe.fit(x, x == x, score, np.ones(100, "f4"), key=KEY), x, x == x)
    np.testing.assert_allclose(found[[0, -1], 0], [np.median(score[:50]), np.median(score[50:])], atol=1e-6)


@pytest.mark.parametrize("with_high", [True, False])
def test_missing_values_go_where_their_like_are(with_high):
    x = np.linspace(-1, 1, 200, dtype="f4")[:, None]
    observed = np.arange(200)[:, None] % 4 > 0
    y = np.where(observed[:, 0], x[:, 0] > 0, with_high)
    recipe = Boosting(2, rounds=10, max_leaves=2)
    found = recipe.predict(recipe.fit(x, observed, y.astype(int), np.ones(200, "f4"), key=KEY), x, observed)
    assert ((np.asarray(found)[:, 1] > 0.5) == y).all()


def test_as_often_right_as_scikit_learn():
    x, y = map(np.asarray, load_wine(return_X_y=True))
    x, test = x.astype("f4"), np.arange(len(y)) % 2 == 0
    recipe = Boosting(3, rounds=15)
    params = recipe.fit(x, np.ones(x.shape, bool), y, (~test).astype("f4"), key=KEY)
    ours = np.asarray(recipe.predict(params, x, np.ones(x.shape, bool))).argmax(1)
    theirs = HistGradientBoostingClassifier(max_iter=15).fit(x[~test], y[~test]).predict(x)
    assert (ours == y)[test].mean() >= (theirs == y)[test].mean() - 0.03


@pytest.mark.parametrize("way", ["permuted", "less rows of no weight"])
def test_it_is_the_same(way):
    x, observed, score, weight = table()
    recipe = Boosting(2, rounds=2, max_leaves=3)

    def told(rows):
        params = recipe.fit(x[rows], observed[rows], (score > 0).astype(int)[rows], weight[rows], key=KEY)
        return recipe.predict(params, x, observed)

    rows = {"permuted": np.random.default_rng(0).permutation(len(x)), "less rows of no weight": weight > 0}
    np.testing.assert_allclose(told(rows[way]), told(slice(None)), atol=1e-6)


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_training_loss_falls_and_rows_of_no_weight_change_nothing(classes):
    x, observed, score, weight = table()
    y = np.digitize(score, np.linspace(-0.5, 0.5, classes - 1)) if classes else score
    recipe = Boosting(classes=classes, rounds=8, learning_rate=0.05, max_leaves=8)
    params = recipe.fit(x, observed, y, weight, key=KEY)
    assert (np.diff(params.train_loss) < 0).all()
    out = weight == 0
    changed, other = x.copy(), y.copy()
    changed[out], other[out] = np.nan, 0
    assert same(params, recipe.fit(changed, observed, other, weight, key=KEY))
    probs = np.asarray(recipe.predict(params, x, observed))
    assert classes == 0 or np.allclose(probs.sum(1), 1, atol=1e-5)


def test_quantiles_cover_their_share_and_ascend():
    x, observed, score, _ = table()
    recipe = Boosting(loss="quantile", levels=(0.1, 0.5, 0.9), rounds=20, max_leaves=4)
    params = recipe.fit(x, observed, score, np.ones(len(x), "f4"), key=KEY)
    found = np.asarray(recipe.predict(params, x, observed))
    assert (np.diff(found, axis=1) >= 0).all()
    np.testing.assert_allclose((score[:, None] <= found).mean(0), [0.1, 0.5, 0.9], atol=0.07)


@pytest.mark.parametrize("noise", [False, True])
def test_rounds_end_at_the_best(noise):
    x, observed, score, weight = table(300)
    y = (np.random.default_rng(1).normal(size=300) if noise else score) > 0
    recipe = Boosting(2, rounds=40, rows=0.5, features=0.5, validation=0.2, patience=3, learning_rate=0.3)
    params = recipe.fit(x, observed, y.astype(int), (weight > 0).astype("f4"), key=KEY)
    kept, history = int(params.kept), np.asarray(params.validation_loss)
    assert kept <= 3 if noise else kept > 3
    assert np.isnan(history[kept + 3 :]).all()
    assert np.nanargmin(history) == kept - 1
    assert (np.asarray(params.trees.feature)[kept:] == -1).all()
    chances = np.asarray(recipe.predict(params, x, observed))[np.arange(300), y.astype(int)]
    told = 0.2 * history[kept - 1] + 0.8 * np.asarray(params.train_loss)[kept - 1]
    assert -np.log(chances)[weight > 0].mean() == pytest.approx(told, rel=1e-4)


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


def test_the_loss_says_what_is_usual():
    assert [(one.min_samples_leaf, one.l2) for one in (Boosting(), Boosting(2), Boosting(3))] == [
        (20, 1),
        (10, 1),
        (20, 0.3),
    ]
    assert Boosting(3, min_samples_leaf=5, l2=0.0).given({"rounds": 2}) == Boosting(
        3, rounds=2, min_samples_leaf=5, l2=0.0
    )
