"""Gradient boosting under the parameter names of scikit-learn's HistGradientBoosting."""

import numpy as np
from scipy.special import expit, softmax

from framework.baselines.base import Estimator
from framework.baselines.sklearn_api.table import Classifier, Probable, Regressor, Table
from framework.baselines.trees import boosting
from framework.baselines.trees.arrays import predict_sum
from framework.errors import UserError

LOSSES = {"squared_error": "squared", "absolute_error": "absolute", "quantile": "quantile"}


class _Boosting(Table):
    """Base of classifier and regressor; `n_iter_` of the `max_iter` rounds are kept after early stopping."""

    _gaps = True

    def _columns(self, x: np.ndarray) -> int:
        """Not padded where features are drawn: those without values would be among them."""
        return super()._columns(x) if self.max_features == 1 else x.shape[1]

    def _estimator(self, x: np.ndarray, weight: np.ndarray, classes: int) -> Estimator:
        return boosting.Boosting(
            classes,
            **self._loss(),
            rounds=self.max_iter,
            learning_rate=self.learning_rate,
            max_leaves=self.max_leaf_nodes,
            max_depth=self.max_depth,
            min_samples_leaf=None if self.min_samples_leaf is None else int(self.min_samples_leaf),
            min_child_weight=float(self.min_child_weight),
            l2=self.l2_regularization,
            bins=self.max_bins,
            features=float(self.max_features),
            validation=float(self.validation_fraction) if self.early_stopping else 0.0,
            patience=self.n_iter_no_change,
        )

    @property
    def n_iter_(self):
        return int(self.params_.kept)


class BoostingClassifier(_Boosting, Probable, Classifier):
    """Trees on the gradients of the log loss, grown best leaf first; NaN is missing and learns its side at each node.

    A side of a split needs the second derivatives of `min_samples_leaf` average rows of its node, as in LightGBM, where
    scikit-learn counts rows; and a sum of them of `min_child_weight`. By default those are 10 rows where there are two
    classes, 20 where there are more, and `l2_regularization` is 1 and 0.3.
    """

    def __init__(
        self,
        *,
        learning_rate=0.1,
        max_iter=100,
        max_leaf_nodes=31,
        max_depth=None,
        min_samples_leaf=None,
        min_child_weight=1e-3,
        l2_regularization=None,
        max_features=1.0,
        max_bins=255,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        random_state=None,
        class_weight=None,
    ):
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.max_leaf_nodes = max_leaf_nodes
        self.max_depth = max_depth
        self.min_samples_leaf = min_samples_leaf
        self.min_child_weight = min_child_weight
        self.l2_regularization = l2_regularization
        self.max_features = max_features
        self.max_bins = max_bins
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.random_state = random_state
        self.class_weight = class_weight

    def decision_function(self, X):  # noqa: N803
        raw = self._answer(X, _raw)
        return raw[:, 0] if len(self.classes_) == 2 else raw

    def predict_proba(self, X):  # noqa: N803
        raw = self._answer(X, _raw)
        return expit(np.concatenate([-raw, raw], 1)) if len(self.classes_) == 2 else softmax(raw, axis=1)

    def _scores(self, X):  # noqa: N803
        return self.predict_proba(X)

    def _loss(self) -> dict:
        return {}


class BoostingRegressor(_Boosting, Regressor):
    """As `BoostingClassifier`, of a number: squared or absolute errors, or a `quantile`."""

    def __init__(
        self,
        loss="squared_error",
        *,
        quantile=None,
        learning_rate=0.1,
        max_iter=100,
        max_leaf_nodes=31,
        max_depth=None,
        min_samples_leaf=20,
        min_child_weight=1e-3,
        l2_regularization=1.0,
        max_features=1.0,
        max_bins=255,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        random_state=None,
    ):
        self.loss = loss
        self.quantile = quantile
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.max_leaf_nodes = max_leaf_nodes
        self.max_depth = max_depth
        self.min_samples_leaf = min_samples_leaf
        self.min_child_weight = min_child_weight
        self.l2_regularization = l2_regularization
        self.max_features = max_features
        self.max_bins = max_bins
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.random_state = random_state

    def _loss(self) -> dict:
        if self.loss not in LOSSES or (self.loss == "quantile") != (self.quantile is not None):
            asked = f"loss={self.loss!r}, quantile={self.quantile!r}"
            raise UserError(f"{asked}; expected one of {', '.join(LOSSES)}, and with quantile alone a quantile")
        return {"loss": LOSSES[self.loss], "levels": () if self.quantile is None else (float(self.quantile),)}


def _raw(recipe, params, x, observed):
    """Scores before the link: log-odds of two classes."""
    return params.init_score + predict_sum(params.trees, x, observed)
