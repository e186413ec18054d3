"""A little of `benchmarks.parity`: as good as scikit-learn's own on small tables, and the same optimum of the dual."""

import numpy as np
import pytest
from sklearn import datasets, ensemble, linear_model, svm
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from framework.baselines import sklearn_api as api

FOREST = {"n_estimators": 60, "random_state": 0, "oob_score": True}


@pytest.fixture(scope="module")
def tumours():
    x, y = datasets.load_breast_cancer(return_X_y=True)
    return train_test_split(StandardScaler().fit_transform(x), y, random_state=0)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (api.RandomForestClassifier(**FOREST), ensemble.RandomForestClassifier(**FOREST)),
        (api.ExtraTreesClassifier(60, random_state=0), ensemble.ExtraTreesClassifier(60, random_state=0)),
        (api.BoostingClassifier(max_iter=30), ensemble.GradientBoostingClassifier(n_estimators=30)),
        (api.SVC(), svm.SVC()),
        (api.LogisticRegression(), linear_model.LogisticRegression()),
    ],
    ids=lambda model: type(model).__name__,
)
def test_labels_are_told_as_well(tumours, ours, theirs):
    x, tested, y, truth = tumours
    ours.fit(x, y), theirs.fit(x, y)
    assert ours.score(tested, truth) >= theirs.score(tested, truth) - 0.02
    if hasattr(theirs, "oob_score_"):
        assert ours.oob_score_ == pytest.approx(theirs.oob_score_, abs=0.015)
        top = np.argsort(theirs.feature_importances_)[-6:]
        assert set(np.argsort(ours.feature_importances_)[-3:]) <= set(top)


def test_one_optimum_has_one_answer():
    """Ridge, logistic regression and machines minimise what scikit-learn's do, so that they agree row by row."""
    x, y = datasets.load_diabetes(return_X_y=True)
    x, level = StandardScaler().fit_transform(x), (y > 140).astype(int)
    line, peer = api.Ridge(3.0).fit(x, y), linear_model.Ridge(3.0).fit(x, y)
    np.testing.assert_allclose(line.coef_, peer.coef_, rtol=1e-8)
    ours = api.LogisticRegression(0.3).fit(x, level)
    theirs = linear_model.LogisticRegression(C=0.3, tol=1e-10, max_iter=1_000).fit(x, level)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=1e-5)
    ours, theirs = api.SVR(C=10.0, tol=1e-5).fit(x, y), svm.SVR(C=10.0, tol=1e-5).fit(x, y)
    np.testing.assert_allclose(ours.predict(x), theirs.predict(x), rtol=1e-3)
    ours = make_pipeline(StandardScaler(), api.QuantileRegressor(quantile=0.8, alpha=0.01)).fit(x, y)
    theirs = make_pipeline(StandardScaler(), linear_model.QuantileRegressor(quantile=0.8, alpha=0.01)).fit(x, y)
    np.testing.assert_allclose(ours.predict(x), theirs.predict(x), rtol=0.02)


def test_the_dual_is_solved_as_libsvm_solves_it(tumours):
    x, _, y, _ = tumours
    kernel, sign = rbf_kernel(x, gamma=1 / x.shape[1]), 2.0 * y - 1
    ours = api.SVC(gamma=1 / x.shape[1], tol=1e-4).fit(x, y)
    theirs = svm.SVC(gamma=1 / x.shape[1], tol=1e-4).fit(x, y)
    beta = np.zeros((2, len(x)))
    beta[0], beta[1, theirs.support_] = np.asarray(ours.params_.beta)[0, : len(x)], theirs.dual_coef_[0]
    mine, known = (0.5 * one @ kernel @ one - sign @ one for one in beta)
    assert mine == pytest.approx(known, rel=1e-4)
    slope = kernel @ beta[0] - sign  # Keerthi's two sets: whose coefficient may rise, whose may fall
    up, down = beta[0] < np.where(sign > 0, 1 - 1e-6, -1e-6), beta[0] > np.where(sign > 0, 1e-6, -1 + 1e-6)
    assert (-slope[up]).max() - (-slope[down]).min() < 1e-3
