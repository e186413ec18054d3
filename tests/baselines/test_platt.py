import jax
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from framework.baselines import platt


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


def test_coupling_solves_its_least_squares():
    pairs = np.random.default_rng(0).uniform(0.02, 0.98, (10, 6)).astype("f4")
    first, second = np.triu_indices(4, 1)

    def loss(p, r):
        return (((1 - r) * p[second] - r * p[first]) ** 2).sum()  # p of the first should be as often as it wins

    for r, found in zip(pairs, np.asarray(platt.couple(pairs, 4)), strict=True):
        best = minimize(
            loss, np.ones(4) / 4, (r,), bounds=[(0, 1)] * 4, constraints={"type": "eq", "fun": lambda p: p.sum() - 1}
        )
        assert loss(found, r) <= best.fun + 1e-4
        assert found.sum() == pytest.approx(1, abs=1e-5)


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
