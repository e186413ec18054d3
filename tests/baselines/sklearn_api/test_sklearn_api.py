"""scikit-learn's own contract over every class, and what it does not ask: shared compilations, missing extras, words."""

import pickle
import subprocess
import sys
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from framework.baselines import sklearn_api as api
from framework.baselines.base import Estimator
from framework.baselines.sklearn_api import table

# As in scikit-learn's own list, sklearn.utils._test_common.instance_generator.PER_ESTIMATOR_XFAIL_CHECKS of 1.9.1
WEIGHTS = {
    "check_sample_weight_equivalence_on_dense_data": "sample_weight is not equivalent to removing/repeating samples."
}
COUNTERPARTS_FAIL_TOO = {
    api.RandomForestClassifier: WEIGHTS,  # which fails check_classifiers_one_label_sample_weights, too: ours passes
    api.RandomForestRegressor: WEIGHTS,
    api.BoostingClassifier: WEIGHTS,  # HistGradientBoostingRegressor and LogisticRegression fail as well: ours pass
    api.SVC: WEIGHTS,
    api.SVR: WEIGHTS,
}

# small where scikit-learn makes its own small for these checks
INSTANCES = [
    api.RandomForestClassifier(5),
    api.RandomForestRegressor(5),
    api.BoostingClassifier(max_iter=5, min_samples_leaf=1),
    api.BoostingRegressor(max_iter=5, min_samples_leaf=1),
    api.SVC(),
    api.SVC(kernel="precomputed"),
    api.SVR(),
    api.SVR(kernel="precomputed"),
    api.Ridge(),
    api.QuantileRegressor(),
    api.LogisticRegression(),
]
ALIKE = [api.ExtraTreesClassifier(5), api.ExtraTreesRegressor(5)]  # forests, too: make trials


@parametrize_with_checks(INSTANCES, expected_failed_checks=lambda one: COUNTERPARTS_FAIL_TOO.get(type(one), {}))
def test_scikit_learns_contract(estimator, check):
    check(estimator)


@pytest.mark.long
@parametrize_with_checks(ALIKE)
def test_scikit_learns_contract_at_length(estimator, check):
    check(estimator)


def test_every_public_class_is_held_to_it():
    assert {type(one).__name__ for one in (*INSTANCES, *ALIKE)} == set(api.__all__)


@dataclass(frozen=True)
class Mean(Estimator):
    """The weighted mean of y times a factor, and how often it was traced."""

    classes: int = 0
    factor: float = 1.0
    DYNAMIC = ("factor",)

    def fit(self, x, observed, y, weight, *, key):
        TRACED.append(x.shape)
        return self.factor * (y * weight).sum() / weight.sum()

    def predict(self, params, x, observed):
        return jnp.broadcast_to(params, (len(x), 1)) + 0 * observed.sum()


TRACED: list[tuple[int, ...]] = []


class MeanRegressor(table.Regressor):
    def __init__(self, factor=1.0):
        self.factor = factor

    def _estimator(self, x, weight, classes):
        return Mean(factor=self.factor)


def test_nearby_sizes_and_all_settings_share_a_compilation():
    TRACED.clear()
    rng = np.random.default_rng(0)
    for rows in (1_900, 1_950, 2_048, 2_100):
        for columns, factor in ((97, 1), (100, 2.0), (104, np.float64(3))):
            x, y = rng.normal(size=(rows, columns)), rng.normal(size=rows)
            told = MeanRegressor(factor).fit(x, y).predict(x[:300])
            np.testing.assert_allclose(told, np.full(300, factor * y.mean()), rtol=1e-4, atol=1e-6)
    assert TRACED == [(2_048, 104), (2_304, 104)]


@pytest.mark.parametrize("size", [1, 8, 100, 1_000, 12_345, 100_000])
def test_a_bucket_is_no_more_than_an_eighth_too_large(size):
    assert size <= table.bucket(size, 8) <= max(8, size * 1.125 + 8)


def test_without_scikit_learn_one_line_names_the_extra():
    code = "import sys; sys.modules['sklearn'] = None\nimport framework.baselines.sklearn_api"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "UserError: scikit-learn is not installed" in ended.stderr.splitlines()[-1]
    assert "prognax[sklearn]" in ended.stderr.splitlines()[-1]


def test_pure_estimators_do_not_load_it():
    code = (
        "import sys, importlib, framework.baselines as b\n"
        "from pathlib import Path\n"
        "root = Path(b.__file__).parent\n"
        "files = [f.relative_to(root) for f in root.rglob('*.py') if f.stem != '__init__' and 'sklearn_api' not in f.parts]\n"
        "assert len(files) > 20\n"
        "for f in files: importlib.import_module('.'.join(('framework.baselines', *f.with_suffix('').parts)))\n"
        "assert 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_search_in_a_pipeline_finds_what_a_study_would():
    x, y = load_breast_cancer(return_X_y=True)
    x, labels = x[:200], np.array(["benign", "malignant"])[1 - y[:200]]
    chain = make_pipeline(StandardScaler(), api.SVC())
    search = GridSearchCV(chain, {"svc__C": [0.01, 1.0, 10.0], "svc__gamma": [0.01, 0.1]}, cv=3).fit(x, labels)
    assert search.best_score_ > 0.93
    assert set(search.predict(x)) == {"benign", "malignant"}
    assert list(search.best_estimator_.classes_) == ["benign", "malignant"]
    x, y = load_diabetes(return_X_y=True)
    assert cross_val_score(api.Ridge(0.1), x, y, cv=3).mean() > 0.4


def test_what_was_learnt_survives_pickling_to_the_digit():
    x, y = load_diabetes(return_X_y=True)
    for model in (api.Ridge(), api.SVR(C=10.0)):
        model.fit(x, y)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(x), model.predict(x))
        assert not hasattr(clone(model), "params_")


X, Y = np.random.default_rng(1).normal(size=(40, 3)), np.arange(40) % 2


@pytest.mark.parametrize("model", INSTANCES[::2], ids=lambda model: type(model).__name__)
@pytest.mark.parametrize(
    ("x", "y", "weight", "words"),
    [
        (X, Y, -np.ones(40), "Negative values in data passed to `sample_weight`"),
        (X, Y, np.zeros(40), "Sample weights must contain at least one non-zero number"),
        (sparse.csr_matrix(X), Y, None, "Sparse data was passed"),
        (X[:0], Y[:0], None, "0 sample"),
        (X * 1j, Y, None, "Complex data not supported"),
        (X[:, 0], Y, None, "Expected 2D array, got 1D array instead"),
        (X, Y[:-1], None, "inconsistent numbers of samples"),
    ],
)
def test_mistakes_read_as_in_scikit_learn(model, x, y, weight, words):
    with pytest.raises((ValueError, TypeError), match=words):
        clone(model).fit(x, y, sample_weight=weight)
