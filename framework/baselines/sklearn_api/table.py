"""A pure estimator behind scikit-learn's conventions: tables checked, padded to shared shapes, fitted and asked."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import numpy as np
from jaxtyping import Array, PyTree, Shaped
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from framework.baselines.base import Estimator

ROWS, COLUMNS = 256, 8  # the least a table is padded to

Ask = Callable[..., Array]


def bucket(size: int, least: int) -> int:
    """The size a table is padded to, at most an eighth above its own; nearby sizes share it, and one compilation."""
    step = max(least, 1 << max(size.bit_length() - 4, 0))
    return max(-(-size // step), 1) * step


@partial(jax.jit, static_argnums=0)
def fitted(recipe: Estimator, settings: Mapping, x: Array, observed: Array, y: Array, weight: Array, key: Array):
    """Parameters, compiled once for all tables of a bucket and all settings that may be traced."""
    return recipe.given(settings).fit(x, observed, y, weight, key=key)


@partial(jax.jit, static_argnums=(0, 1))
def asked(question: Ask, recipe: Estimator, settings: Mapping, params: PyTree, x: Array, observed: Array, *more: Array):
    """Return the answer of a fitted estimator to `question`, compiled as `fitted` is."""
    return question(recipe.given(settings), params, x, observed, *more)


def probabilities(recipe: Estimator, params: PyTree, x: Array, observed: Array) -> Array:
    """Return the estimator's predictions."""
    return recipe.predict(params, x, observed)


class Table(BaseEstimator, ABC):
    """Base of classifiers and regressors; a subclass makes the estimator of its parameters.

    After `fit`, `recipe_` is that estimator, `settings_` those of its fields that are traced, and `params_` its pytree
    of parameters, at home among all other JAX code: `recipe_.given(settings_).predict(params_, x, observed)`.
    """

    _gaps: ClassVar[bool] = False  # NaN is a value that is missing, not a mistake
    _dtype: ClassVar[type] = np.float32  # float64 where closed forms are expected to its precision
    _static: ClassVar[tuple[str, ...]] = ()  # settings that might be traced, but shape the program

    if TYPE_CHECKING:  # parameters are set by the subclasses' constructors

        def __getattr__(self, name: str) -> Any: ...

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._gaps
        return tags

    @abstractmethod
    def _estimator(self, x: np.ndarray, weight: np.ndarray, classes: int) -> Estimator:
        """The pure estimator that these parameters mean for this table."""

    def _checked(self, **data: Any) -> Any:
        finite = "allow-nan" if self._gaps else True
        return validate_data(self, dtype=self._dtype, ensure_all_finite=finite, **data)

    def _weights(self, x: np.ndarray, sample_weight: Any) -> np.ndarray:
        weight = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
        if not weight.any():
            raise ValueError("Sample weights must contain at least one non-zero number.")
        return weight

    def _learn(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray, classes: int) -> None:
        estimator = self._estimator(x, weight, classes)
        numbers = {name: getattr(estimator, name) for name in estimator.DYNAMIC if name not in self._static}
        self.settings_ = {name: self._dtype(value) for name, value in numbers.items() if isinstance(value, Real)}
        self.recipe_ = _neutral(estimator, self.settings_)
        rows = bucket(len(x), ROWS)
        seed = check_random_state(getattr(self, "random_state", None)).randint(np.iinfo(np.int32).max)
        table = *self._padded(x, rows), longer(y, rows), longer(weight.astype(self._dtype), rows)
        with jax.enable_x64(self._dtype is np.float64):
            params = fitted(self.recipe_, self.settings_, *table, jax.random.key(seed))
            if short := self.recipe_.shortfall(params):
                warnings.warn(short, ConvergenceWarning, stacklevel=3)
            # NumPy keeps float64 wherever they are unpickled; JAX would cut them to float32
            self.params_ = jax.tree.map(np.asarray, params) if self._dtype is np.float64 else params

    def _padded(self, x: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Values and what of them was observed, in the bucket's shape; NaN stays, for it is never read."""
        values = np.zeros((rows, self._columns(x)), self._dtype)
        observed = np.zeros(values.shape, bool)
        values[: len(x), : x.shape[1]] = x
        observed[: len(x), : x.shape[1]] = ~np.isnan(x) if self._gaps else True
        return values, observed

    def _columns(self, x: np.ndarray) -> int:
        return bucket(x.shape[1], COLUMNS)

    def _answer(self, X: Any, question: Ask = probabilities) -> np.ndarray:  # noqa: N803
        check_is_fitted(self)
        return self._ask(self._checked(X=X, reset=False), question)

    def _ask(self, x: np.ndarray, question: Ask, *more: np.ndarray) -> np.ndarray:
        """Return the answer to `question` for each row of a checked table; `more` are further columns."""
        rows = bucket(len(x), ROWS)
        table = *self._padded(x, rows), *(longer(each.astype(self._dtype), rows) for each in more)
        with jax.enable_x64(self._dtype is np.float64):
            answer = asked(question, self.recipe_, self.settings_, self.params_, *table)
            return np.asarray(answer, np.float64)[: len(x)]


class Classifier(ClassifierMixin, Table):
    """Labels become indices of `classes_`, and back."""

    def fit(self, X, y, sample_weight=None):  # noqa: N803
        x, y = self._checked(X=X, y=y)
        check_classification_targets(y)
        self.classes_, level = np.unique(y, return_inverse=True)
        weight = self._weights(x, sample_weight)
        if self.class_weight is not None:
            weight = weight * compute_sample_weight(self.class_weight, y)
        self._learn(x, level.astype(np.int32), weight, len(self.classes_))
        return self

    def predict(self, X):  # noqa: N803
        best = self._scores(X).argmax(1)
        return self.classes_[best]

    def _scores(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return a score for each class; the greatest is predicted."""
        return self._answer(X)


class Probable(Table):
    """`predict_proba` of those whose estimator answers with probabilities."""

    def predict_proba(self, X):  # noqa: N803
        chances = self._answer(X)
        return chances / chances.sum(1, keepdims=True)

    def predict_log_proba(self, X):  # noqa: N803
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))


def two_classes(self: Classifier, y: np.ndarray, weight: np.ndarray) -> None:
    """Raise scikit-learn's error where fewer than two classes have weight."""
    present = np.unique(y[weight > 0])
    if len(present) < 2:
        raise ValueError(
            f"{type(self).__name__} needs samples of at least 2 classes in the data, but the data contains only one "
            f"class: {self.classes_[present[0]]!r}"
        )


class Regressor(RegressorMixin, Table):
    """A number a row."""

    def fit(self, X, y, sample_weight=None):  # noqa: N803
        x, y = self._checked(X=X, y=y, y_numeric=True)
        self._learn(x, y.astype(self._dtype), self._weights(x, sample_weight), 0)
        return self

    def predict(self, X):  # noqa: N803
        return self._answer(X)[:, 0]


def longer(values: Shaped[np.ndarray, " n"], rows: int) -> Shaped[np.ndarray, " m"]:
    """Zeros up to so many rows."""
    return np.concatenate([values, np.zeros(rows - len(values), values.dtype)])


def _neutral(estimator: Estimator, settings: Mapping) -> Estimator:
    """The estimator with all traced settings at their class's defaults, so that it is the same whatever they are."""
    plain = {one.name: one.default for one in fields(estimator) if one.name in settings}
    return replace(estimator, **plain)
