"""Linear models under scikit-learn's parameter names, computed in float64 as its users expect."""

import numpy as np

from framework.baselines.base import Estimator
from framework.baselines.linear import base, logistic, quantile, ridge
from framework.baselines.sklearn_api.table import Classifier, Probable, Regressor, two_classes


class _Line(Regressor):
    """Base of linear regressors."""

    _dtype = np.float64

    @property
    def coef_(self):
        return np.asarray(self.params_.coef)[: self.n_features_in_, 0]

    @property
    def intercept_(self):
        return float(self.params_.intercept[0])


class Ridge(_Line):
    """Least squares with a squared penalty: sum of w (y - a - x b)² + alpha |b|²; the intercept is free."""

    def __init__(self, alpha=1.0):
        self.alpha = alpha

    def _estimator(self, x, weight, classes) -> Estimator:
        return ridge.Ridge(penalty=self.alpha)


class QuantileRegressor(_Line):
    """The line under which a share `quantile` of the rows lies: weighted mean of the pinball loss, plus alpha |b|₁."""

    def __init__(self, *, quantile=0.5, alpha=1.0, tol=1e-6):
        self.quantile = quantile
        self.alpha = alpha
        self.tol = tol

    def _estimator(self, x, weight, classes) -> Estimator:
        penalty = self.alpha * weight.sum()
        return quantile.Quantile((float(self.quantile),), penalty, l1_ratio=1.0, tolerance=float(self.tol), steps=5_000)


class LogisticRegression(Probable, Classifier):
    """Softmax with an elastic net: C times the sum of w (-log p(y)), plus l1_ratio |b|₁ + (1 - l1_ratio) |b|² / 2."""

    _dtype = np.float64

    def __init__(self, C=1.0, *, l1_ratio=0.0, tol=1e-6, class_weight=None):  # noqa: N803
        self.C = C
        self.l1_ratio = l1_ratio
        self.tol = tol
        self.class_weight = class_weight

    def _estimator(self, x, weight, classes) -> Estimator:
        return logistic.Logistic(classes, penalty=1 / self.C, l1_ratio=float(self.l1_ratio), tolerance=float(self.tol))

    def _learn(self, x, y, weight, classes):
        two_classes(self, y, weight)
        super()._learn(x, y, weight, classes)

    def decision_function(self, X):  # noqa: N803
        found = self._answer(X, _outputs)
        return found[:, 0] if len(self.classes_) == 2 else found

    @property
    def coef_(self):
        return np.asarray(self.params_.coef)[: self.n_features_in_].T

    @property
    def intercept_(self):
        return np.asarray(self.params_.intercept)


def _outputs(recipe, params, x, observed):
    return base.outputs(params, x, observed)
