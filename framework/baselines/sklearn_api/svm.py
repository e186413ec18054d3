"""Support vector machines under scikit-learn's parameter names."""

import warnings

import jax.numpy as jnp
import numpy as np
from sklearn.utils.metaestimators import available_if

from framework.baselines.base import Estimator
from framework.baselines.sklearn_api.table import (
    COLUMNS,
    ROWS,
    Classifier,
    Probable,
    Regressor,
    Table,
    bucket,
    two_classes,
)
from framework.baselines.svm.svm import GIB, SVM


class _SVM(Table):
    """Base of classifier and regressor: the kernel's parameters, and fitted attributes."""

    recipe_: SVM

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self.kernel == "precomputed"
        return tags

    def _columns(self, x: np.ndarray) -> int:
        return bucket(x.shape[1], ROWS if self.kernel == "precomputed" else COLUMNS)

    def _estimator(self, x: np.ndarray, weight: np.ndarray, classes: int) -> Estimator:
        if self.kernel == "precomputed" and len(x) != x.shape[1]:
            raise ValueError(f"Precomputed matrix must be a square matrix. Input is a {len(x)}x{x.shape[1]} matrix.")
        own = {} if classes else {"epsilon": self.epsilon}
        return SVM(
            classes,
            C=self.C,
            gamma=self._gamma(x),
            kernel=self.kernel,
            degree=self.degree,
            coef0=float(self.coef0),
            folds=5 if getattr(self, "probability", False) else 0,
            tolerance=float(self.tol),
            memory=self.memory,
            nystrom=self.nystrom,
            **own,
        )

    def _learn(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray, classes: int) -> None:
        """Fit, and warn of an approximation at each fit; the estimator itself warns once, when it is traced."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the kernel of")
            super()._learn(x, y, weight, classes)
        if message := self.recipe_.approximated(bucket(len(x), ROWS)):
            warnings.warn(message, stacklevel=3)

    def _gamma(self, x: np.ndarray) -> float:
        """As a number: of the table's own columns, not of those it is padded to."""
        if self.kernel in ("linear", "precomputed"):
            return 1.0
        if self.gamma == "scale":
            variance = x.var(dtype=np.float64)
            return 1 / (x.shape[1] * variance) if variance else 1.0
        return 1 / x.shape[1] if self.gamma == "auto" else self.gamma

    @property
    def support_(self):
        """The indices of the support vectors."""
        return np.flatnonzero(np.any(np.asarray(self.params_.beta) != 0, axis=0))

    @property
    def intercept_(self):
        return np.asarray(self.params_.intercept, np.float64)


class SVC(_SVM, Probable, Classifier):
    """C-SVC, one against one; `decision_function` is per class, of votes and then of confidence.

    `probability` cross-fits sigmoids (Platt's) in five folds. Where the kernel's values exceed `memory` bytes, fitting
    is refused unless `nystrom` allows so many components to stand for it.
    """

    def __init__(
        self,
        *,
        C=1.0,  # noqa: N803
        kernel="rbf",
        degree=3,
        gamma="scale",
        coef0=0.0,
        probability=False,
        tol=1e-3,
        class_weight=None,
        random_state=None,
        memory=4 * GIB,
        nystrom=0,
    ):
        self.C = C
        self.kernel = kernel
        self.degree = degree
        self.gamma = gamma
        self.coef0 = coef0
        self.probability = probability
        self.tol = tol
        self.class_weight = class_weight
        self.random_state = random_state
        self.memory = memory
        self.nystrom = nystrom

    def _learn(self, x, y, weight, classes):
        two_classes(self, y, weight)
        super()._learn(x, y, weight, classes)

    def decision_function(self, X):  # noqa: N803
        found = self._answer(X, _decisions)
        return found[:, 0] if len(self.classes_) == 2 else found

    def _scores(self, X):  # noqa: N803
        found = self._answer(X, _decisions)
        return np.concatenate([-found, found], 1) if len(self.classes_) == 2 else found

    @available_if(lambda self: self.probability)
    def predict_proba(self, X):  # noqa: N803
        return super().predict_proba(X)

    @available_if(lambda self: self.probability)
    def predict_log_proba(self, X):  # noqa: N803
        return super().predict_log_proba(X)


class SVR(_SVM, Regressor):
    """ε-SVR: errors below epsilon cost nothing. `memory` and `nystrom` are as of `SVC`."""

    def __init__(
        self,
        *,
        kernel="rbf",
        degree=3,
        gamma="scale",
        coef0=0.0,
        tol=1e-3,
        C=1.0,  # noqa: N803
        epsilon=0.1,
        memory=4 * GIB,
        nystrom=0,
    ):
        self.kernel = kernel
        self.degree = degree
        self.gamma = gamma
        self.coef0 = coef0
        self.tol = tol
        self.C = C
        self.epsilon = epsilon
        self.memory = memory
        self.nystrom = nystrom


def _decisions(recipe, params, x, observed):
    """Return the margin of two classes; for more, each one's votes, and below one vote its share of all confidences."""
    pairs = recipe.decision(params, x, observed)
    if recipe.classes == 2:
        return pairs
    first, second = np.triu_indices(recipe.classes, 1)
    sure = jnp.zeros((len(x), recipe.classes)).at[:, first].add(-pairs).at[:, second].add(pairs)
    return recipe.votes(pairs, params.classes_seen) + sure / (3 * (jnp.abs(sure) + 1))
