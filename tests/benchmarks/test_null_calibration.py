"""A few studies of those that `benchmarks.null_calibration` and `benchmarks.coverage` run by the thousand."""

import numpy as np
import pytest

from benchmarks import coverage, null_calibration
from framework.forecast.calibration.correctors import Conformal, ConformalQuantiles


def test_the_band_is_the_binomial_s():
    low, high = coverage.band(2000)
    assert (round(low, 4), round(high, 4)) == (0.937, 0.962)


def test_intervals_cover_and_those_of_visits_do_not():
    simulated = {by_visit: coverage.simulated(60, 20, 120, by_visit=by_visit)["MAE"] for by_visit in (False, True)}
    held = {by_visit: coverage.covered(found, coverage.TRUTH["MAE"]).mean() for by_visit, found in simulated.items()}
    assert held[False] > 0.85
    assert held[True] <= 0.9


@pytest.mark.long
def test_intervals_of_few_subjects_cover_at_length():
    low, high = coverage.band(2000)
    for name, found in coverage.simulated(2000, 50, 1000).items():
        assert low <= coverage.covered(found, coverage.TRUTH[name]).mean() <= high, name


@pytest.mark.long
def test_random_labels():
    found = null_calibration.random_labels(30, resamples=100)
    held = {name: null_calibration.labels_case(*one, 30, "coverage") for name, one in found.items()}
    assert held["held out"]["coverage"] > 0.85
    assert abs(held["held out"]["auc"] - 0.5) < 0.04
    assert held["folds"]["over_folds"] > 0.85
    assert held["visit-wise folds"]["auc"] > 0.65  # a subject's other visits give its label away
    assert held["visit-wise folds"]["coverage"] < 0.1


def test_equal_forecasters_rarely_differ():
    case = null_calibration.false_findings(np.asarray(null_calibration.equal_forecasters(300), np.float64))
    assert case["corrected"] < 0.08
    assert case["plain"] > 0.2  # what correction is for


@pytest.mark.parametrize("calibrator", [Conformal(), ConformalQuantiles()])
def test_conformal_intervals_hold_what_they_say(calibrator):
    case = null_calibration.conformal(calibrator, 100)
    assert abs(case["coverage_90"] - 0.9) < 0.03
    assert abs(case["coverage_50"] - 0.5) < 0.04
