import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from scipy.special import expit

from framework.baselines.svm import platt


def decisions(n=80, seed=0):
    rng = np.random.default_rng(seed)
    d = rng.normal(size=n).astype("f4")
    return d, rng.random(n) < expit(2 * d - 0.5), rng.integers(0, 4, n).astype("f4")


def oracle(d, positive, weight):
    high, low = weight[positive].sum(), weight[~positive].sum()
    target = np.where(positive, (high + 1) / (high + 2), 1 / (low + 2))

    def loss(line):
        z = line[0] * d.astype("f8") + line[1]
        return (weight * (target * z + np.logaddexp(0, -z))).sum()

    return minimize(loss, [0, 0], tol=1e-10).x


@pytest.mark.parametrize("seed", range(3))
def test_the_line_is_the_most_likely(seed):
    d, positive, weight = decisions(seed=seed)
    np.testing.assert_allclose(platt.calibrate(d, positive, weight), oracle(d, positive, weight), rtol=2e-3, atol=2e-3)


def test_decisions_that_part_the_classes_stay_short_of_certainty():
    d = np.linspace(-2, 2, 40).astype("f4")
    line = platt.calibrate(d, d > 0, np.ones(40, "f4"))
    np.testing.assert_allclose(line, oracle(d, d > 0, np.ones(40)), rtol=2e-2, atol=1e-4)
    found = platt.probability(line[None], d[:, None])
    assert 0.9 < float(found.max()) < 1


@pytest.mark.parametrize("side", [True, False])
def test_one_side_alone_is_answered_whatever_the_decision(side):
    line = platt.calibrate(decisions()[0], np.full(80, side), np.ones(80, "f4"))
    assert float(line[0]) == 0
    assert (float(platt.probability(line[None], np.zeros((1, 1), "f4"))[0, 0]) > 0.9) is side


def test_rows_without_weight_change_no_bit():
    d, positive, weight = decisions()
    d2, positive2 = np.where(weight > 0, d, np.nan).astype("f4"), positive | (weight == 0)
    np.testing.assert_array_equal(platt.calibrate(d, positive, weight), platt.calibrate(d2, positive2, weight))


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_consistent_pairs_give_back_their_distribution(classes):
    p = np.random.default_rng(0).dirichlet(np.ones(classes), 15)
    first, second = np.triu_indices(classes, 1)
    pairs = (p[:, second] / (p[:, first] + p[:, second])).astype("f4")
    np.testing.assert_allclose(platt.couple(pairs, classes), p, atol=2e-4)


@given(
    logits=arrays(np.float32, (8, 6), elements=st.floats(-20, 20, width=32)),
    pair=st.integers(0, 5),
    by=st.floats(0, 20, width=32),
)
def test_a_class_is_never_less_likely_for_a_larger_decision_of_a_pair(logits, pair, by):
    """The least squares of Wu, Lin & Weng (2004) lower it by up to .0025 where pairs contradict each other."""
    first, second = (places[pair] for places in np.triu_indices(4, 1))
    more = logits.copy()
    more[:, pair] += by
    before, after = (np.asarray(platt.couple(expit(part), 4)) for part in (logits, more))
    assert (after[:, second] >= before[:, second] * (1 - 1e-5)).all()
    assert (after[:, first] <= before[:, first] * (1 + 1e-5)).all()
    np.testing.assert_allclose(after.sum(1), 1, rtol=1e-5)


@given(
    decision=arrays(np.float32, 16, elements=st.floats(-3, 3, width=32)),
    positive=arrays(bool, 16),
    weight=arrays(np.float32, 16, elements=st.sampled_from([0.0, 1.0, 2.5])),
)
def test_a_probability_never_falls_as_the_decision_rises(decision, positive, weight):
    """Whatever the labels: decisions of weak machines on rows left out run against them."""
    line = np.asarray(platt.calibrate(decision, positive, weight))
    ordered = np.asarray(platt.probability(line[None], np.linspace(-4, 4, 41, dtype="f4")[:, None]))[:, 0]
    assert np.isfinite(line).all()
    assert (np.diff(ordered) >= 0).all()


def test_decisions_against_their_labels_are_answered_with_the_base_rate():
    positive = np.arange(30) % 3 == 0
    line = platt.calibrate(np.where(positive, -0.1, 0.1).astype("f4"), positive, np.ones(30, "f4"))
    assert float(line[0]) == 0
    np.testing.assert_allclose(platt.probability(line[None], np.zeros((1, 1), "f4")), 11 / 32, rtol=1e-5)


def test_folds_are_spread_over_every_group_and_rows_without_weight_draw_nothing():
    key, group = jax.random.key(1), np.arange(60) % 3
    weight = (np.arange(60) % 4 > 0).astype("f4")
    folds = np.array(platt.folds(key, group, weight, 5))
    assert (folds.sum(0) == (weight > 0)).all()
    for number in range(3):
        sizes = folds[:, group == number].sum(1)
        assert sizes.max() - sizes.min() <= 1
    alone = np.array(platt.folds(key, group[weight > 0], np.ones(45, "f4"), 5))
    np.testing.assert_array_equal(folds[:, weight > 0], alone)
