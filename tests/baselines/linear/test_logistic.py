import warnings

import jax
import numpy as np
import pytest
from scipy.special import softmax
from sklearn import datasets
from sklearn.linear_model import LogisticRegression

from framework.baselines.linear.logistic import Logistic

KEY = jax.random.key(0)


def table(name):
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    x = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1)
    return x.astype(np.float32), np.ones(x.shape, bool), y


@pytest.mark.parametrize("name", ["breast_cancer", "wine", "digits"])
@pytest.mark.parametrize(("penalty", "l1_ratio"), [(1.0, 0.0), (10.0, 1.0), (10.0, 0.5)])
def test_coefficients_are_scikit_learns(name, penalty, l1_ratio):
    x, seen, y = table(name)
    weight = np.random.default_rng(0).integers(0, 3, len(y)).astype(np.float32)
    if l1_ratio and name == "digits":
        keep = np.arange(len(y)) % 4 == 0
        x, seen, y, weight = x[keep], seen[keep], y[keep], weight[keep]
    model = Logistic(len(set(y)), penalty, l1_ratio)
    params = model.fit(x, seen, y, weight, key=KEY)
    solver = "saga" if l1_ratio else "newton-cg"
    reference = LogisticRegression(C=1 / penalty, l1_ratio=l1_ratio, solver=solver, tol=1e-7, max_iter=3000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference.fit(x.astype(float), y, sample_weight=weight)
    scale = np.abs(reference.coef_).max()
    np.testing.assert_allclose(params.coef.T, reference.coef_, rtol=1e-3, atol=1e-3 * scale)
    np.testing.assert_allclose(model.predict(params, x, seen), reference.predict_proba(x), atol=1e-3)


@pytest.mark.parametrize(("name", "penalty", "l1_ratio"), [("breast_cancer", 0.1, 1.0), ("wine", 0.01, 0.5)])
def test_the_optimum_has_no_downhill(name, penalty, l1_ratio):
    """The generalised gradient in float64: an oracle where other solvers take minutes."""
    x, seen, y = table(name)
    params = Logistic(len(set(y)), penalty, l1_ratio).fit(x, seen, y, np.ones(len(y), np.float32), key=KEY)
    b, a = np.asarray(params.coef, float), np.asarray(params.intercept, float)
    scores = x @ b + a
    if scores.shape[1] == 1:
        scores = np.concatenate([0 * scores, scores], 1)
    wrong = softmax(scores, 1) - np.eye(scores.shape[1])[y]
    gradient = (x.T @ wrong)[:, -b.shape[1] :] / len(y) + penalty * (1 - l1_ratio) / len(y) * b
    l1 = penalty * l1_ratio / len(y)
    free = np.where(b != 0, np.abs(gradient + l1 * np.sign(b)), np.maximum(np.abs(gradient) - l1, 0))
    assert free.max() < 3e-6
    assert np.abs(wrong.mean(0)).max() < 3e-6
    assert (b == 0).any()


def test_a_path_is_the_fits_one_by_one_and_lanes_are_fits():
    x, seen, y = table("wine")
    weight = (np.arange(len(y)) % 4 > 0).astype(np.float32)
    penalties = np.array([1.0, 30.0, 5.0], np.float32)
    for l1_ratio in (0.0, 0.5):
        model = Logistic(3, l1_ratio=l1_ratio)
        path = model.path(x, seen, y, weight, penalties)
        keys = jax.random.split(KEY, 3)
        many = model.fit_many(x, seen, y, np.stack([weight] * 3), keys=keys, settings={"penalty": penalties})
        for at, penalty in enumerate(penalties):
            one = model.given({"penalty": float(penalty)}).fit(x, seen, y, weight, key=KEY)
            np.testing.assert_allclose(path.coef[at], one.coef, atol=1e-3)
            np.testing.assert_allclose(many.coef[at], one.coef, atol=1e-4)


def test_rows_that_weigh_nothing_and_what_is_masked_are_not_read():
    x, seen, y = table("wine")
    weight = (np.arange(len(y)) % 3 > 0).astype(np.float32)
    seen = seen & (x > x.min(0))
    loud = np.where(seen & (weight > 0)[:, None], x, np.nan).astype(np.float32)
    for l1_ratio in (0.0, 1.0):
        model = Logistic(3, l1_ratio=l1_ratio)
        before = model.fit(x, seen, y, weight, key=KEY)
        after = model.fit(
            loud, np.where((weight > 0)[:, None], seen, True), np.where(weight > 0, y, 7), weight, key=KEY
        )
        jax.tree.map(np.testing.assert_array_equal, before, after)


def test_one_level_alone_and_separable_classes_stay_finite():
    x = np.linspace(-1, 1, 20, dtype=np.float32)[:, None]
    seen, weight = np.ones(x.shape, bool), np.ones(20, np.float32)
    for y in (np.zeros(20, int), (x[:, 0] > 0).astype(int)):
        for classes in (2, 3):
            model = Logistic(classes, 1e-6)
            probs = model.predict(model.fit(x, seen, y, weight, key=KEY), x, seen)
            assert (np.asarray(probs).argmax(1) == y).all()
