"""The estimators as scikit-learn's users know them: its parameter names, its attributes, its error messages.

They clone, stand in pipelines and are searched over. Tables are padded to buckets of rows (of weight zero) and columns
(never observed, or constant), so that the folds of a cross-validation and fits of nearby sizes share a compilation.
"""

from framework.errors import UserError

try:
    import sklearn  # noqa: F401
except ImportError as missing:
    raise UserError(
        "scikit-learn is not installed; these classes follow its conventions; install the extra: prognax[sklearn]"
    ) from missing

from framework.baselines.sklearn_api.boosting import BoostingClassifier, BoostingRegressor
from framework.baselines.sklearn_api.forest import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from framework.baselines.sklearn_api.linear import LogisticRegression, QuantileRegressor, Ridge
from framework.baselines.sklearn_api.svm import SVC, SVR

__all__ = [
    "SVC",
    "SVR",
    "BoostingClassifier",
    "BoostingRegressor",
    "ExtraTreesClassifier",
    "ExtraTreesRegressor",
    "LogisticRegression",
    "QuantileRegressor",
    "RandomForestClassifier",
    "RandomForestRegressor",
    "Ridge",
]
