import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from framework.evaluate.inference.corrected_ttest import corrected
from framework.evaluate.inference.multiple_comparisons import compact_letters, holm, letters, places


def test_holm_is_that_of_statsmodels():
    p = np.random.default_rng(0).uniform(size=20) ** 3
    assert np.allclose(holm(p), multipletests(p, method="holm")[1])


@pytest.mark.parametrize(
    ("apart", "expected"),
    [
        ([], ["a", "a", "a"]),
        ([(0, 1), (0, 2), (1, 2)], ["a", "b", "c"]),
        ([(0, 2)], ["a", "ab", "b"]),
        ([(0, 1), (0, 2)], ["a", "b", "b"]),
        ([(0, 3), (0, 4), (1, 4)], ["a", "ab", "abc", "bc", "c"]),
    ],
)
def test_letters_by_hand(apart, expected):
    matrix = np.zeros((len(expected), len(expected)), bool)
    for i, j in apart:
        matrix[i, j] = matrix[j, i] = True
    assert compact_letters(matrix) == expected


def test_two_share_a_letter_where_they_are_not_apart_and_only_there():
    rng = np.random.default_rng(1)
    for _ in range(50):
        m = rng.integers(2, 9)
        apart = np.triu(rng.uniform(size=(m, m)) < rng.uniform(), 1)
        apart = apart | apart.T
        told = compact_letters(apart)
        for i in range(m):
            for j in range(i):
                assert bool(set(told[i]) & set(told[j])) != apart[i, j]


def test_the_best_comes_first_and_what_is_undefined_has_none():
    p = np.full((3, 3), 0.001)
    assert letters([2.0, 1.0, np.inf], p) == ["b", "a", ""]
    assert letters([1.0, 2.0, 3.0], np.full((3, 3), 0.03)) == ["a", "a", "a"]  # 0.03 thrice is not below 5%


def test_one_split_corrected_by_nothing_is_a_t_test():
    gaps = np.random.default_rng(2).normal(0.4, 1, 10)
    low, high, p = corrected(gaps, tested=0.0, trained=1.0)
    expected = stats.ttest_1samp(gaps, 0)
    assert np.allclose((low, high), expected.confidence_interval())
    assert np.isclose(p, expected.pvalue)
    wide = corrected(gaps, tested=1.0, trained=9.0)  # ten folds: 1/10 + 1/9 instead of 1/10
    assert np.isclose((wide[1] - wide[0]) / (high - low), np.sqrt(1 + 10 / 9))
    assert np.isnan(corrected(np.array([0.1, np.nan]), tested=1.0, trained=1.0)).all()
    assert corrected(np.zeros(4), tested=1.0, trained=3.0) == (0.0, 0.0, 1.0)


def test_places_by_hand():
    losses = np.array([2.0, 1.0, np.inf, 2.0])  # the third is undefined
    draws = np.array([[1.0, 2, np.nan, 3]] * 50 + [[3.0, 1, np.nan, 2]] * 49 + [[3.0, np.nan, np.nan, 2]])
    own = places(losses, draws)
    assert own[:, 0].tolist()[:2] == [2.5, 1.0]
    assert own[0].tolist() == [2.5, 1, 3]
    assert own[1].tolist() == [1, 1, 2]
    assert own[3].tolist() == [2.5, 2, 3]
    assert np.isnan(own[2]).all()
    assert np.isnan(places(losses, np.full((5, 4), np.nan))[:, 1:]).all()


def test_places_of_alike_and_of_apart():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(2000, 3)) * 0.1 + np.array([0, 0, 5])
    own = places(np.array([0.0, 0.1, 5.0]), draws)
    assert own.tolist() == [[1, 1, 2], [2, 1, 2], [3, 3, 3]]
