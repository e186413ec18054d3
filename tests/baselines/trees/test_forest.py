from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest, uniform
from sklearn import datasets
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier, RandomForestRegressor

from framework.baselines.native import forest as native
from framework.baselines.trees import forest
from framework.baselines.trees.forest import Forest, compact, importances
from framework.errors import UserError

KEY = jax.random.key(3)
CATEGORIES = (6, 0, 0, 0)


@contextmanager
def by_xla(patch=pytest.MonkeyPatch):
    """Under another setting, which says nothing on a CPU, so that no program compiled before is taken, nor kept."""
    with patch.context() as own, jax.default_matmul_precision("highest"):
        own.setattr(native, "available", lambda: False)
        yield


def table(n=120, classes=3, missing=0.2, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    x[:, 0], x[:, 1] = rng.integers(0, 6, n), rng.integers(0, 3, n)
    observed = rng.random(x.shape) >= missing
    y = rng.integers(0, classes, n) if classes else rng.normal(size=n).astype(np.float32) + x[:, 2]
    return x, observed, y, rng.integers(0, 3, n).astype(np.float32)


RECIPES = [
    Forest(classes=4, trees=3, extra=True, categories=CATEGORIES),
    pytest.param(
        Forest(classes=2, trees=3, categories=CATEGORIES, min_samples_leaf=4, max_depth=5, bins=16),
        marks=pytest.mark.long,
    ),
    Forest(trees=3, max_features=0.5, categories=CATEGORIES, min_samples_leaf=3),
    Forest(trees=3, extra=True, categories=CATEGORIES, min_samples_leaf=2, bins=20),
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_native_and_xla_grow_the_same_trees(recipe):
    if not native.available():
        pytest.skip("no native kernels on this machine")
    data = table(classes=recipe.classes)
    ours = recipe.fit(*data, key=KEY)
    with by_xla():
        plain = recipe.fit(*data, key=KEY)
    assert np.asarray(ours.trees.left).max() > 8
    for name in ("feature", "left", "missing_left", "categories"):
        np.testing.assert_array_equal(getattr(ours.trees, name), getattr(plain.trees, name), name)
    np.testing.assert_array_equal(ours.seeds, plain.seeds)
    if recipe.extra:
        np.testing.assert_array_equal(ours.trees.threshold, plain.trees.threshold)
    for one, other in ((ours.trees.threshold, plain.trees.threshold), (ours.trees.value, plain.trees.value)):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours.gain, plain.gain, rtol=1e-3, atol=1e-3)


def impurity(y, w):
    """Gini's impurity of each class, or squared error, times weight."""
    if y.dtype.kind == "i":
        shares = np.bincount(y, w) / w.sum()
        return w.sum() * (1 - (shares**2).sum())
    return (w * (y - (w * y).sum() / w.sum()) ** 2).sum()


def best_by_hand(x, observed, y, w):
    """The least impurity that one split of these rows can leave."""
    least = np.inf
    for j in range(x.shape[1]):
        for cut in [*np.unique(x[observed[:, j], j]), np.inf]:
            for missing_left in (False, True):
                left = np.where(observed[:, j], x[:, j] <= cut, missing_left)
                if left.any() and not left.all():
                    least = min(least, impurity(y[left], w[left]) + impurity(y[~left], w[~left]))
    return least


@pytest.mark.parametrize("classes", [0, 3])
def test_every_split_is_the_best_there_is(classes):
    x, observed, y, weight = table(n=40, classes=classes)
    kept = weight > 0
    recipe = Forest(classes=classes, trees=1, bootstrap=False, max_features=4)
    trees = jax.tree.map(lambda a: np.asarray(a)[0], recipe.fit(x, observed, y, weight, key=KEY).trees)
    rows = {0: np.flatnonzero(kept)}
    for node in range(int(trees.left.max()) + 2):
        at = rows[node]
        expected = np.bincount(y[at], weight[at], 3) if classes else (weight[at] * y[at]).sum()
        np.testing.assert_allclose(trees.value[node] * weight[at].sum(), np.atleast_1d(expected), rtol=1e-4, atol=1e-4)
        if trees.feature[node] < 0:
            assert len(np.unique(y[at])) == 1 or len(np.unique(np.where(observed, x, np.inf)[at], axis=0)) == 1
            continue
        j, seen = trees.feature[node], observed[at, trees.feature[node]]
        left = np.where(seen, x[at, j] <= trees.threshold[node], trees.missing_left[node])
        rows[trees.left[node]], rows[trees.left[node] + 1] = at[left], at[~left]
        sides = [impurity(y[side], weight[side]) for side in (at[left], at[~left])]
        assert sum(sides) <= best_by_hand(x[at], observed[at], y[at], weight[at]) + 1e-4


def test_the_rules_hold():
    x, observed, y, weight = table(classes=2, n=300)
    recipe = Forest(classes=2, trees=8, max_depth=3, min_samples_leaf=9, bootstrap=False)
    found = recipe.fit(x, observed, y, weight, key=KEY)
    leaves = recipe.predict(found, x, observed)[weight > 0]
    assert found.trees.feature.shape == (8, 15)
    assert len(np.unique(leaves)) > 3
    alone = Forest(classes=2, trees=1, min_samples_leaf=9, bootstrap=False)
    probs = alone.predict(alone.fit(x, observed, y, weight, key=KEY), x, observed)[weight > 0]
    assert np.unique(probs[:, 0], return_counts=True)[1].min() >= 9


def test_rows_without_weight_and_hidden_values_are_not_seen():
    x, observed, y, weight = table()
    recipe = Forest(classes=3, trees=5)
    found = recipe.fit(x, observed, y, weight, key=KEY)
    gone = weight == 0
    other = np.where(observed & ~gone[:, None], x, np.nan).astype(np.float32)
    changed = recipe.fit(other, observed | gone[:, None], np.where(gone, 99, y), weight, key=KEY)
    fewer = recipe.fit(x[~gone], observed[~gone], y[~gone], weight[~gone], key=KEY)
    twice = recipe.fit(x, observed, y, 2 * weight, key=KEY)
    ours = recipe.predict(found, x, observed)
    np.testing.assert_allclose(ours.sum(1), 1, rtol=1e-5)
    for one in (changed, fewer, twice):
        np.testing.assert_array_equal(recipe.predict(one, x, observed), ours)


def test_jit_and_lanes_are_single_fits():
    x, observed, y, weight = table()
    recipe = Forest(classes=3, trees=4)
    weights, keys = jnp.stack([weight, weight[::-1]]), jax.random.split(KEY, 2)
    settings = {"max_features": jnp.array([0.3, 1.0]), "min_samples_leaf": jnp.array([1.0, 4.0])}
    many = jax.jit(lambda w: recipe.fit_many(x, observed, y, w, keys=keys, settings=settings))(weights)
    one = Forest(classes=3, trees=4, max_features=4, min_samples_leaf=4).fit(x, observed, y, weights[1], key=keys[1])
    lane = jax.tree.map(lambda part: np.asarray(part)[1], many)
    np.testing.assert_array_equal(lane.trees.value[:, :20], one.trees.value[:, :20])
    np.testing.assert_array_equal(recipe.predict(lane, x, observed), recipe.predict(one, x, observed))


def test_missing_values_take_the_better_side():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 1)).astype(np.float32)
    observed = rng.random((400, 1)) < 0.7
    for side in (1.0, -1.0):
        y = np.where(observed[:, 0], np.sign(x[:, 0]), side).astype(np.float32)
        recipe = Forest(trees=3, max_depth=1)
        found = recipe.predict(recipe.fit(x, observed, y, np.ones(400, np.float32), key=KEY), x, observed)
        np.testing.assert_allclose(found[:, 0], y, atol=1e-5)


def test_categories_split_into_sets():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 40, (600, 1)).astype(np.float32)
    y = np.isin(x[:, 0], rng.permutation(40)[:20]).astype(np.int32)
    observed, weight = np.ones(x.shape, bool), np.ones(600, np.float32)
    accuracy = []
    for categories in ((40,), ()):
        recipe = Forest(classes=2, trees=5, max_depth=1, categories=categories)
        found = recipe.predict(recipe.fit(x, observed, y, weight, key=KEY), x, observed)
        accuracy.append((found.argmax(1) == y).mean())
    assert accuracy[0] == 1
    assert accuracy[1] < 0.8


def test_extra_trees_draw_thresholds_evenly_over_the_values():
    x = np.repeat(np.array([[0.0], [1.0], [2.0], [10.0]], np.float32), 10, 0)
    y, observed = np.random.default_rng(0).normal(size=40).astype(np.float32), np.ones(x.shape, bool)
    found = Forest(trees=2000, max_depth=1, extra=True).fit(x, observed, y, np.ones(40, np.float32), key=KEY)
    assert kstest(np.asarray(found.trees.threshold)[:, 0], uniform(0, 10).cdf).pvalue > 1e-3


def test_importance_falls_on_what_matters():
    x, observed, _, weight = table(n=300, missing=0)
    recipe = Forest(trees=20, min_samples_leaf=5)
    found = importances(recipe.fit(x, observed, 3 * x[:, 3], weight, key=KEY))
    assert found[3] > 0.95
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-5)


def halves(load, seed):
    x, y = load(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    cut = len(x) * 2 // 3
    return x.astype(np.float32), y, order[:cut], order[cut:]


PEERS = [
    (datasets.load_breast_cancer, 2, False, RandomForestClassifier),
    (datasets.load_wine, 3, True, ExtraTreesClassifier),
    (datasets.load_diabetes, 0, False, RandomForestRegressor),
]


@pytest.mark.parametrize(("load", "classes", "extra", "peer"), PEERS)
def test_as_good_as_scikit_learns(load, classes, extra, peer):
    gaps, bags = [], []
    for seed in range(3):
        x, y, train, test = halves(load, seed)
        observed = np.ones(x.shape, bool)
        bag = not extra
        theirs = peer(100, random_state=seed, **({"oob_score": True} if bag else {})).fit(x[train], y[train])
        recipe = Forest(classes=classes, trees=100, extra=extra)
        y = y if classes else y.astype(np.float32)
        fitted = x[train], observed[train], y[train], np.ones(len(train), np.float32)
        found = recipe.fit(*fitted, key=jax.random.key(seed))
        ours = np.asarray(recipe.predict(found, x[test], observed[test]))
        if classes:
            score = (ours.argmax(1) == y[test]).mean()
        else:
            score = 1 - ((ours[:, 0] - y[test]) ** 2).sum() / ((y[test] - y[test].mean()) ** 2).sum()
        gaps.append(score - theirs.score(x[test], y[test]))
        if bag:
            bags.append(float(recipe.oob_score(found, *fitted)) - theirs.oob_score_)
    assert abs(np.mean(gaps)) < 0.012
    assert abs(np.mean(bags or [0])) < 0.015


def test_compact_forests_predict_the_same():
    x, observed, y, weight = table()
    recipe = Forest(classes=3, trees=4)
    found = recipe.fit(x, observed, y, weight, key=KEY)
    short = compact(found)
    assert short.trees.feature.shape[1] < found.trees.feature.shape[1]
    np.testing.assert_array_equal(recipe.predict(short, x, observed), recipe.predict(found, x, observed))


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match="2 to 255"):
        Forest(bins=300)
    with pytest.raises(UserError, match="sqrt"):
        Forest(max_features="log")


@pytest.mark.parametrize("most", [1, 3, 4])
def test_a_forest_grown_a_few_trees_at_a_time_answers_as_the_whole(monkeypatch, most):
    x, observed, y, weight = table()
    recipe = Forest(classes=3, trees=7)
    found = recipe.predict(recipe.fit(x, observed, y, weight, key=KEY), x, observed)
    monkeypatch.setattr(forest, "AT_ONCE", most * recipe._bytes_of_a_tree(len(x)))
    parts = recipe.answer_grid(x, observed, y, weight, key=KEY, settings={"min_samples_leaf": np.ones(1, np.float32)})
    np.testing.assert_allclose(parts[0], found, rtol=1e-5, atol=1e-6)


def test_a_large_forest_is_kept_without_its_unused_nodes_and_answers_the_same(monkeypatch):
    x, observed, y, weight = table()
    recipe = Forest(classes=3, trees=7, min_samples_leaf=jnp.float32(20))
    found = recipe.fit(x, observed, y, weight, key=KEY)
    assert recipe.compacted(found) is found
    monkeypatch.setattr(forest, "AT_ONCE", 0)
    less = recipe.compacted(found)
    assert less.trees.left.shape[1] < found.trees.left.shape[1] / 4
    np.testing.assert_array_equal(recipe.predict(less, x, observed), recipe.predict(found, x, observed))
