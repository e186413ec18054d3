"""Random forests and extra trees under scikit-learn's parameter names."""

import math
import warnings
from dataclasses import replace
from numbers import Integral
from typing import Any

import jax.numpy as jnp
import numpy as np
from sklearn.metrics import accuracy_score, r2_score

from framework.baselines.base import Estimator
from framework.baselines.sklearn_api.pruning import pruned
from framework.baselines.sklearn_api.table import ROWS, Classifier, Probable, Regressor, Table, bucket, longer
from framework.baselines.trees.forest import Forest, compact, importances
from framework.errors import UserError


class _Trees(Table):
    """Base of all forests. Columns are not padded: a node would draw those without values among its features."""

    _gaps = True
    _static = ("max_depth", "min_samples_leaf")  # they bound how many nodes a tree can have
    _extra = False
    recipe_: Forest

    def _columns(self, x: np.ndarray) -> int:
        return x.shape[1]

    def _estimator(self, x: np.ndarray, weight: np.ndarray, classes: int) -> Estimator:
        n, f = x.shape
        return Forest(
            classes,
            trees=_whole("n_estimators", self.n_estimators),
            max_features=self._tried(f) / f,
            max_depth=None if self.max_depth is None else _whole("max_depth", self.max_depth),
            min_samples_leaf=_count("min_samples_leaf", self.min_samples_leaf, n, 1),
            min_samples_split=_count("min_samples_split", self.min_samples_split, n, 2),
            bins=_whole("max_bins", self.max_bins),
            bootstrap=bool(self.bootstrap),
            extra=self._extra,
        )

    def _tried(self, f: int) -> int:
        """How many of f features a node tries."""
        asked = self.max_features
        named = {"sqrt": math.sqrt(f), "log2": math.log2(f), None: f}
        if isinstance(asked, str | None):
            if asked not in named:
                raise UserError(
                    f'max_features={asked!r}; expected "sqrt", "log2", None, a number or a share of features'
                )
            return max(1, int(named[asked]))
        if isinstance(asked, Integral):
            return min(_whole("max_features", asked), f)
        if not 0 < asked <= 1:
            raise UserError(f"max_features={asked!r}; expected a share in (0, 1], or a whole number of features")
        return max(1, int(asked * f))

    def _learn(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray, classes: int) -> None:
        if self.oob_score and not self.bootstrap:
            raise ValueError("Out of bag estimation only available if bootstrap=True")
        super()._learn(x, y, weight, classes)
        self.params_ = compact(self.params_)
        if self.min_weight_fraction_leaf:
            self._prune(x, weight)
        if self.oob_score:
            found = self._out_of_bag(x, weight)
            if np.isnan(found).any():
                warnings.warn("Some inputs do not have OOB scores: all trees drew them; use more trees", stacklevel=3)
            self._keep_out_of_bag(found, y)

    def _prune(self, x: np.ndarray, weight: np.ndarray) -> None:
        """Branches end where their best split would leave a side too light: it is not sought among lighter ones.

        Importances are of the trees as grown.
        """
        share = self.min_weight_fraction_leaf
        if not 0 < share <= 0.5:
            raise UserError(f"min_weight_fraction_leaf={share!r}; expected a share of all weight, 0 to 0.5")
        rows = bucket(len(x), ROWS)
        values, observed = map(jnp.asarray, self._padded(x, rows))
        own = jnp.asarray(longer(weight.astype(np.float32), rows))
        heavy = self.recipe_.drawn(own, self.params_.seeds) * own
        trees = pruned(self.params_.trees, values, observed, heavy, jnp.float32(share * weight.sum()))
        self.params_ = replace(self.params_, trees=trees)

    def _out_of_bag(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return for each row the mean over the trees that did not draw it."""
        return self._ask(x, _oob, weight)

    @property
    def feature_importances_(self):
        return np.asarray(importances(self.params_), np.float64)


class _ForestClassifier(_Trees, Probable, Classifier):
    def _keep_out_of_bag(self, found: np.ndarray, y: np.ndarray) -> None:
        some = ~np.isnan(found[:, 0])
        self.oob_decision_function_ = found
        self.oob_score_ = accuracy_score(y[some], found[some].argmax(1))


class _ForestRegressor(_Trees, Regressor):
    def _keep_out_of_bag(self, found: np.ndarray, y: np.ndarray) -> None:
        some = ~np.isnan(found[:, 0])
        self.oob_prediction_ = found[:, 0]
        self.oob_score_ = r2_score(y[some], found[some, 0])


class RandomForestClassifier(_ForestClassifier):
    """Trees on rows drawn with replacement, grown on histograms; NaN is missing and learns its side at each node."""

    def __init__(
        self,
        n_estimators=100,
        *,
        max_depth=None,
        min_samples_split=2,
        min_samples_leaf=1,
        min_weight_fraction_leaf=0.0,
        max_features="sqrt",
        bootstrap=True,
        oob_score=False,
        random_state=None,
        class_weight=None,
        max_bins=255,
    ):
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.min_samples_split = min_samples_split
        self.min_samples_leaf = min_samples_leaf
        self.min_weight_fraction_leaf = min_weight_fraction_leaf
        self.max_features = max_features
        self.bootstrap = bootstrap
        self.oob_score = oob_score
        self.random_state = random_state
        self.class_weight = class_weight
        self.max_bins = max_bins


class RandomForestRegressor(_ForestRegressor):
    """As `RandomForestClassifier`, of a number: squared errors."""

    def __init__(
        self,
        n_estimators=100,
        *,
        max_depth=None,
        min_samples_split=2,
        min_samples_leaf=1,
        min_weight_fraction_leaf=0.0,
        max_features=1.0,
        bootstrap=True,
        oob_score=False,
        random_state=None,
        max_bins=255,
    ):
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.min_samples_split = min_samples_split
        self.min_samples_leaf = min_samples_leaf
        self.min_weight_fraction_leaf = min_weight_fraction_leaf
        self.max_features = max_features
        self.bootstrap = bootstrap
        self.oob_score = oob_score
        self.random_state = random_state
        self.max_bins = max_bins


class ExtraTreesClassifier(RandomForestClassifier):
    """Trees whose thresholds are drawn, by default on all rows."""

    _extra = True

    def __init__(
        self,
        n_estimators=100,
        *,
        max_depth=None,
        min_samples_split=2,
        min_samples_leaf=1,
        min_weight_fraction_leaf=0.0,
        max_features="sqrt",
        bootstrap=False,
        oob_score=False,
        random_state=None,
        class_weight=None,
        max_bins=255,
    ):
        super().__init__(
            n_estimators,
            max_depth=max_depth,
            min_samples_split=min_samples_split,
            min_samples_leaf=min_samples_leaf,
            min_weight_fraction_leaf=min_weight_fraction_leaf,
            max_features=max_features,
            bootstrap=bootstrap,
            oob_score=oob_score,
            random_state=random_state,
            class_weight=class_weight,
            max_bins=max_bins,
        )


class ExtraTreesRegressor(RandomForestRegressor):
    """As `ExtraTreesClassifier`, of a number: squared errors."""

    _extra = True

    def __init__(
        self,
        n_estimators=100,
        *,
        max_depth=None,
        min_samples_split=2,
        min_samples_leaf=1,
        min_weight_fraction_leaf=0.0,
        max_features=1.0,
        bootstrap=False,
        oob_score=False,
        random_state=None,
        max_bins=255,
    ):
        super().__init__(
            n_estimators,
            max_depth=max_depth,
            min_samples_split=min_samples_split,
            min_samples_leaf=min_samples_leaf,
            min_weight_fraction_leaf=min_weight_fraction_leaf,
            max_features=max_features,
            bootstrap=bootstrap,
            oob_score=oob_score,
            random_state=random_state,
            max_bins=max_bins,
        )


def _oob(recipe, params, x, observed, weight):
    return recipe.oob(params, x, observed, weight)


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise UserError(f"{name}={value!r}; expected a whole number, 1 or more")
    return int(value)


def _count(name: str, value: Any, n: int, least: int) -> int:
    """So many rows, or that share of all n."""
    if isinstance(value, Integral):
        return max(least, _whole(name, value))
    if not 0 < value < 1:
        raise UserError(f"{name}={value!r}; expected a whole number of rows, or a share of them in (0, 1)")
    return max(least, math.ceil(value * n))
