"""Memory of tabular fits: bounded whatever the grid, estimated beforehand, refused above what is allowed."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from framework.baselines.linear.ridge import Ridge
from framework.baselines.svm.svm import SVM
from framework.baselines.trees import forest
from framework.baselines.trees.forest import Forest
from framework.errors import UserError
from framework.forecast.predict import answers
from framework.forecast.tabular import forecaster
from framework.forecast.tabular.forecaster import Tabular
from framework.forecast.tabular.selection import Candidates
from tests.forecast.tabular.test_forecaster import KEY, LEVEL, RECIPE, SPLIT, falling

__all__ = ["falling"]  # a fixture

ROWS, FEATURES = 4000, 50
TABLE = ROWS * FEATURES * 4  # bytes


def used(estimator, grid, prepared: bool = False) -> int:
    [program] = Candidates(estimator, grid, prepared, prepared).programs(0)
    return program.bytes(ROWS, FEATURES)


def test_more_penalties_take_no_table_each():
    few, many = (used(partial(Ridge), {"penalty": [float(p) for p in range(1, n)]}, True) for n in (3, 33))
    assert many - few < TABLE


def test_more_candidates_and_more_trees_take_no_forest_each(monkeypatch):
    leaves = [float(n) for n in range(1, 9)]
    monkeypatch.setattr(forest, "AT_ONCE", 5 * ROWS * 40)  # some five trees
    one = forest_grid(leaves[:1], 40)
    assert forest_grid(leaves, 40) < 1.5 * one
    assert forest_grid(leaves[:1], 80) < 1.5 * one


@pytest.mark.filterwarnings("ignore:.*approximated by")
def test_more_settings_of_an_approximated_kernel_take_no_features_each():
    recipe, features = partial(SVM, memory=100, nystrom=64), ROWS * 64 * 4
    few, many = (used(recipe, {"C": [float(c) for c in range(1, n)]}, True) for n in (3, 13))
    assert many - few < 3 * features


def forest_grid(leaves: list[float], trees: int) -> int:
    """Bytes of the choice among these, the kept forest apart."""
    x, observed, y, weight = (np.zeros(shape) for shape in ((ROWS, FEATURES), (ROWS, FEATURES), ROWS, ROWS))
    recipe, grid = Forest(trees=trees), {"min_samples_leaf": np.array(leaves, np.float32)}
    ask = jax.jit(lambda *rows: recipe.answer_grid(*rows, key=KEY, settings=grid))
    return ask.lower(x, observed.astype(bool), y, weight).compile().memory_analysis().temp_size_in_bytes


def test_a_fit_that_would_take_more_than_allowed_is_refused_before_anything_is_tabulated(falling, monkeypatch):
    monkeypatch.setattr(forecaster, "MANY", 1)
    monkeypatch.setattr(forecaster, "tabulate", lambda *_: pytest.fail("the table was made"))
    with pytest.raises(
        UserError, match=r"'score' would take about 0\.\d GB for .* rows of .* model\.max_memory_gb=1e-06"
    ):
        replace(RECIPE, max_memory_gb=1e-6).fit(falling, SPLIT, KEY)


def test_a_kernel_too_large_is_refused_before_anything_is_tabulated(falling, monkeypatch):
    monkeypatch.setattr(forecaster, "MANY", 1)
    monkeypatch.setattr(forecaster, "tabulate", lambda *_: pytest.fail("the table was made"))
    exact = Candidates(partial(SVM, memory=100), {"C": [1.0]}, True, True)
    with pytest.raises(UserError, match=r"model\.regressor\.estimator cannot be fitted to .* bytes, .* `nystrom`"):
        replace(RECIPE, regressor=exact).fit(falling, SPLIT, KEY)


def test_no_memory_is_refused():
    with pytest.raises(UserError, match=r"model\.max_memory_gb is 0"):
        replace(RECIPE, max_memory_gb=0.0)


def test_a_forest_kept_without_its_unused_nodes_is_read_back(falling, tmp_path, monkeypatch):
    monkeypatch.setattr(forest, "AT_ONCE", 0)
    trees = Candidates(partial(Forest, trees=3), {"min_samples_leaf": [5.0]}, False, False)
    recipe = Tabular(LEVEL, trees, 3, "query", True, None, None, None)
    fitted = recipe.fit(falling, SPLIT, KEY)
    assert fitted.learnt["score"].params.trees.left.shape[1] < 40
    fitted.save(tmp_path)
    rows = np.flatnonzero(SPLIT.test)
    before, after = (
        answers(one, falling, rows, falling.eval_queries) for one in (fitted, recipe.load(tmp_path, falling.layout))
    )
    for name, found in before.items():
        np.testing.assert_array_equal(after[name], found)
