"""A few studies of those that `benchmarks.noise` runs by the thousand."""

from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from benchmarks import noise
from framework.evaluate.metrics.ranking import AUC, AUPRC


def test_the_average_precision_of_a_random_ranking():
    fold, truth = np.array([0] * 4 + [1] * 5 + [2] * 2), np.array([1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1.0])
    each = [
        np.mean([average_precision_score(truth[fold == k], order) for order in permutations(range(np.sum(fold == k)))])
        for k in (0, 1)  # the last fold has events alone
    ]
    assert noise.expected_under_noise(AUPRC(positive=1), truth, fold) == pytest.approx(np.average(each, weights=[2, 2]))
    assert noise.expected_under_noise(AUC(), truth, fold) == 0.5


def test_intervals_of_noise_cover_its_expected_score():
    found = noise.cases(40, subjects=40, folds=4, resamples=150, targets=("two classes",))
    assert len(found) == 4
    for name, case in found.items():
        assert case["coverage"] >= 0.85, name
        assert case["coverage"] >= case["bootstrap"], name
        assert abs(case["bias"]) < 0.06, name  # pooled over folds an AUC would be .1 too low
        assert 0.8 < case["width"] < 2.2, name
