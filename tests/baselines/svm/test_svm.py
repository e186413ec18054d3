import warnings
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine, make_classification
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

from framework.baselines import sklearn_api
from framework.baselines.base import Estimator
from framework.baselines.svm.svm import SVM
from framework.errors import UserError

KEY = jax.random.key(0)


def table(load, rows=200, seed=0):
    x, y = load(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))[:rows]
    x, y = StandardScaler().fit_transform(x[order]).astype("f4"), y[order]
    return x, (y.astype("f4") / y.std() if load is load_diabetes else y.astype("i4"))


def classes3(n=150, seed=0):
    x, y = make_classification(n, 12, n_informative=6, n_classes=3, random_state=seed)
    return x.astype("f4"), y.astype("i4")


def fitted(svm, x, y, weight=None, key=KEY, observed=None):
    weight = np.ones(len(x), "f4") if weight is None else weight
    seen = np.ones(x.shape, bool) if observed is None else observed
    return program(svm, "fit")(x, seen, y, weight, key=key)


@cache
def program(svm, what):
    """Compiled once for all tests."""
    return jax.jit(getattr(svm, what))


def labels(svm, params, x):
    return np.asarray(program(svm, "labels")(params, x, np.ones(x.shape, bool)))


def decision(svm, params, x):
    return np.asarray(program(svm, "decision")(params, x, np.ones(x.shape, bool)))


def predict(svm, params, x):
    return np.asarray(program(svm, "predict")(params, x, np.ones(x.shape, bool)))


SETTINGS = [
    {"kernel": "linear", "C": 0.5},
    {"kernel": "rbf", "C": 3.0},
    {"kernel": "rbf", "gamma": 0.2},
    {"kernel": "rbf", "gamma": "auto"},
    {"kernel": "poly", "degree": 3, "coef0": 1.0},
    {"kernel": "sigmoid", "gamma": 0.003},
]


@pytest.mark.parametrize("how", SETTINGS, ids=str)
def test_decisions_are_scikit_learns_for_every_kernel(how):
    x, y = classes3()
    svm = SVM(3, folds=0, tolerance=1e-4, **how)
    peer = SVC(decision_function_shape="ovo", tol=1e-4, **how).fit(x, y)
    params = fitted(svm, x, y)
    np.testing.assert_allclose(-decision(svm, params, x), peer.decision_function(x), atol=3e-3)
    assert (labels(svm, params, x) == peer.predict(x)).mean() > 0.99


@pytest.mark.parametrize("how", SETTINGS, ids=str)
def test_numbers_are_scikit_learns_for_every_kernel(how):
    x, y = table(load_diabetes, 150)
    svm = SVM(0, epsilon=0.2, tolerance=1e-4, **how)
    peer = SVR(epsilon=0.2, tol=1e-4, **how).fit(x, y)
    np.testing.assert_allclose(predict(svm, fitted(svm, x, y), x)[:, 0], peer.predict(x), atol=3e-3)


def test_a_precomputed_kernel_is_taken_as_it_is():
    x, y = classes3()
    linear, given = SVM(3, kernel="linear", folds=0), SVM(3, kernel="precomputed", folds=0)
    params, own = fitted(given, x @ x.T, y), fitted(linear, x, y)
    np.testing.assert_allclose(decision(given, params, x[:9] @ x.T), decision(linear, own, x[:9]), atol=2e-3)
    with pytest.raises(UserError, match="precomputed"):
        fitted(given, x, y)


@pytest.mark.parametrize("kind", ["balanced", (1.0, 3.0, 0.5)])
def test_class_and_sample_weights_are_scikit_learns(kind):
    x, y = classes3(120)
    keep = np.flatnonzero((y != 2) | (np.arange(120) % 3 == 0))
    x, y = x[keep], y[keep]
    weight = (
        np.random.default_rng(0).uniform(0.2, 3, len(y)).astype("f4") if kind != "balanced" else np.ones(len(y), "f4")
    )
    svm = SVM(3, class_weight=kind, gamma=0.1, folds=0, tolerance=1e-4)
    peer = SVC(
        class_weight=kind if kind == "balanced" else dict(enumerate(kind)), gamma=0.1, tol=1e-4,
        decision_function_shape="ovo",
    ).fit(x, y, weight)  # fmt: skip
    np.testing.assert_allclose(-decision(svm, fitted(svm, x, y, weight), x), peer.decision_function(x), atol=3e-3)


def test_scale_counts_rows_by_their_weight():
    x, y = classes3(60)
    weight = np.arange(60, dtype="f4") % 3
    again = np.repeat(np.arange(60), weight.astype(int))
    svm = SVM(3, folds=0)
    here, there = fitted(svm, x, y, weight), fitted(svm, x[again], y[again])
    np.testing.assert_allclose(here.gamma, there.gamma, rtol=1e-5)
    np.testing.assert_allclose(here.gamma, 1 / (12 * x[again].var()), rtol=1e-5)
    np.testing.assert_allclose(decision(svm, here, x), decision(svm, there, x), atol=5e-3)


@pytest.mark.parametrize("load", [load_breast_cancer, load_wine])
def test_probabilities_are_as_good_as_scikit_learns(load):
    x, y = table(load, 178)
    x, y, x1, y1 = x[:110], y[:110], x[110:], y[110:]
    svm = SVM(int(y.max()) + 1)
    found = predict(svm, fitted(svm, x, y), x1)
    peer = SVC().fit(x, y)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    assert (found >= 0).all()
    assert -np.log(found[np.arange(len(y1)), y1]).mean() < 0.25
    assert abs((found.argmax(1) == y1).mean() - peer.score(x1, y1)) < 0.04


def test_without_folds_all_goes_to_the_class_with_most_votes():
    x, y = classes3()
    svm = SVM(3, folds=0)
    params = fitted(svm, x, y)
    found = predict(svm, params, x)
    assert set(np.unique(found)) == {0, 1}
    np.testing.assert_array_equal(found.argmax(1), labels(svm, params, x))
    np.testing.assert_array_equal(labels(svm, params, x), SVC().fit(x, y).predict(x))


@pytest.mark.parametrize("svm", [SVM(3), SVM(3, class_weight="balanced"), SVM(0), SVM(3, kernel="poly")], ids=str)
def test_rows_without_weight_and_numbers_under_the_mask_change_no_bit(svm):
    x, y = classes3(80)
    y = y if svm.classes else x[:, 0] + y
    observed = np.random.default_rng(1).random(x.shape) > 0.1
    weight = (np.arange(80) % 4 > 0).astype("f4")
    other, other_y = np.where(observed, x, np.nan), y.copy()
    other[::4], other_y[::4] = np.nan, -7
    here, there = fitted(svm, x, y, weight, KEY, observed), fitted(svm, other, other_y, weight, KEY, observed)
    jax.tree.map(np.testing.assert_array_equal, here, there)
    told = program(svm, "predict")
    np.testing.assert_array_equal(told(here, x, observed), told(there, np.where(observed, x, 9.0), observed))


@pytest.mark.parametrize("classes", [3, 0])
def test_rows_without_weight_might_as_well_not_be_there(classes):
    x, y = classes3(80)
    y = y if classes else x[:, 0] + y
    weight = (np.arange(80) % 4 > 0).astype("f4")
    svm = SVM(classes, tolerance=1e-4)
    kept = weight > 0
    here, there = fitted(svm, x, y, weight), fitted(svm, x[kept], y[kept])
    np.testing.assert_allclose(predict(svm, here, x), predict(svm, there, x), atol=1e-3)


@pytest.mark.long
def test_a_lane_of_many_fits_is_a_fit_and_eager_is_compiled():
    x, y = classes3(90)
    svm, seen = SVM(3, tolerance=1e-4), np.ones(x.shape, bool)
    weights = np.ones((4, 90), "f4")
    weights[1, ::5] = weights[3, 1::5] = 0
    settings = {"C": np.array([1, 1, 5, 0.1], "f4"), "gamma": np.array([0.1, 0.01, 0.05, 1], "f4")}
    keys = jax.random.split(KEY, 4)
    many = jax.jit(lambda w: svm.fit_many(x, seen, y, w, keys=keys, settings=settings))(weights)
    left = svm.held_out(x, seen, y, weights, keys=keys, settings=settings)
    seen_all = jnp.asarray(seen)

    def alone(weight, key, own):
        own = svm.given(own)
        params = own.fit(x, seen_all, y, weight, key=key)
        return own.predict(params, x, seen_all), own.decision(params, x, seen_all)

    single = jax.jit(alone)
    predicted = jax.vmap(lambda params: svm.predict(params, x, seen_all))(many)
    for lane in range(4):
        own = {name: jnp.asarray(value[lane]) for name, value in settings.items()}
        chances, decisions = (np.asarray(part) for part in single(jnp.asarray(weights[lane]), keys[lane], own))
        np.testing.assert_allclose(predicted[lane], chances, atol=2e-3)
        out = weights[lane] == 0
        np.testing.assert_allclose(left[lane][out], decisions[out], atol=2e-3)
        assert not np.asarray(left[lane])[~out].any()
    np.testing.assert_allclose(alone(jnp.asarray(weights[3]), keys[3], own)[0], chances, atol=1e-4)


def test_classes_that_are_not_there_get_nothing():
    x, y = classes3(60)
    svm = SVM(5)
    params = fitted(svm, x, y * 2)
    found = predict(svm, params, x)
    assert not found[:, [1, 3]].any()
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    assert set(labels(svm, params, x)) <= {0, 2, 4}
    only = fitted(SVM(3), x, np.full(60, 1, "i4"))
    np.testing.assert_allclose(predict(SVM(3), only, x), np.eye(3)[np.ones(60, int)], atol=1e-5)


def test_a_kernel_that_does_not_fit_is_refused_or_approximated():
    x, y = classes3(400, seed=3)
    with pytest.raises(UserError, match="the kernel of 400 rows takes 640000 bytes, `memory` allows 1000; raise"):
        fitted(SVM(3, memory=1000), x, y)
    few, exact = SVM(3, memory=1000, nystrom=100), SVM(3)
    with pytest.warns(UserWarning, match="approximated by 100 Nyström components"):
        params = fitted(few, x, y)
    assert params.support_vectors.shape == (100, 12)
    score = (predict(few, params, x).argmax(1) == y).mean()
    assert score > (predict(exact, fitted(exact, x, y), x).argmax(1) == y).mean() - 0.05
    target = np.tanh(x[:, 0]) + 0.1 * x[:, 1]
    few, exact = SVM(0, memory=1000, nystrom=100), SVM(0)
    with pytest.warns(UserWarning, match="approximated"):
        found = predict(few, fitted(few, x, target), x)[:, 0]
    assert np.corrcoef(found, predict(exact, fitted(exact, x, target), x)[:, 0])[0, 1] > 0.96


def test_each_fit_that_is_approximated_says_so():
    x, y = classes3(80)
    for _ in range(2):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            sklearn_api.SVC(memory=1000, nystrom=20).fit(x, y)
        assert [str(one.message).split(": ")[1] for one in told] == ["approximated by 20 Nyström components"]


@pytest.mark.parametrize("classes", [3, 0])
def test_approximation_too_sees_weighted_rows_alone(classes):
    x, y = classes3(80)
    y = y if classes else x[:, 0]
    svm, weight = SVM(classes, memory=1000, nystrom=70), (np.arange(80) % 4 > 0).astype("f4")
    other = np.where(weight[:, None] > 0, x, np.nan)
    with pytest.warns(UserWarning, match="approximated"):
        here, there = fitted(svm, x, y, weight), fitted(svm, other, y, weight)
    jax.tree.map(np.testing.assert_array_equal, here, there)
    assert np.isfinite(predict(svm, here, x)).all()


def test_accuracy_is_scikit_learns():
    for load in (load_breast_cancer, load_wine):
        x, y = table(load, 178)
        for train, test in StratifiedKFold(2).split(x, y):
            svm = SVM(int(y.max()) + 1, folds=0)
            found = labels(svm, fitted(svm, x[train], y[train]), x[test])
            assert abs((found == y[test]).mean() - SVC().fit(x[train], y[train]).score(x[test], y[test])) < 0.005


@pytest.mark.long
def test_nothing_traces_twice_and_double_precision_passes():
    x, y = classes3(50)
    traces = []

    @jax.jit
    def fit(x, y, weight):
        traces.append(x)
        return SVM(3).fit(x, jnp.ones(x.shape, bool), y, weight, key=KEY)

    fit(x, y, np.ones(50, "f4")), fit(x * 2, y, np.zeros(50, "f4"))
    assert len(traces) == 1
    with jax.enable_x64(True):
        wide = SVM(3).fit(x.astype("f8"), np.ones(x.shape, bool), y.astype("i8"), np.ones(50), key=KEY)
        found = SVM(3).predict(wide, x.astype("f8"), np.ones(x.shape, bool))
    np.testing.assert_allclose(found, predict(SVM(3), fitted(SVM(3), x, y), x), atol=2e-3)


@pytest.mark.parametrize(
    "how", [{"kernel": "rfb"}, {"gamma": "wide"}, {"class_weight": "even"}, {"class_weight": (1.0,)}, {"degree": -1},
            {"folds": 1}, {"classes": 1}]
)  # fmt: skip
def test_nonsense_is_refused_in_one_line(how):
    with pytest.raises(UserError) as caught:
        SVM(**({"classes": 3} | how))
    assert "\n" not in str(caught.value)


def test_it_is_an_estimator():
    assert issubclass(SVM, Estimator)
    assert SVM.DYNAMIC == ("C", "epsilon", "gamma")
