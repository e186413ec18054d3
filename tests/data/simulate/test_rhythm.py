"""The law of `rhythm`: its moments, its correlations in time, what is measured when; the same seed, the same series."""

import dataclasses

import numpy as np
import pytest
from scipy.linalg import expm

from framework.data.simulate.rhythm import MEASURES, Course, Law, Parameters, log_gap, ordered, rhythm, simulate

P = Parameters()


@pytest.fixture(scope="module")
def courses() -> list[Course]:
    return [simulate(5, index) for index in range(40)]


def test_the_stationary_covariance_solves_its_equation_and_a_passage_is_the_exponential():
    law = Law(P)
    residual = law.drift @ law.spread + law.spread @ law.drift.T
    assert law.spread[0, 0] == pytest.approx(1)
    np.testing.assert_allclose(residual - np.diag(residual.diagonal()), 0, atol=1e-9)
    np.testing.assert_allclose(residual.diagonal()[[0, 2]], 0, atol=1e-9)
    for cycles in (0.01, 0.4, 3.0):
        np.testing.assert_allclose(law.passage(cycles), expm(law.drift * cycles), atol=1e-9)
        np.testing.assert_allclose(law.passage(cycles), law.passage(cycles / 2) @ law.passage(cycles / 2), atol=1e-9)


def test_what_is_gained_is_the_integral_of_the_noise():
    law, steps = Law(P), 4000
    noise = -(law.drift @ law.spread + law.spread @ law.drift.T)
    passed = law.passage((np.arange(steps) + 0.5) / steps * 0.3)
    integral = (passed @ noise @ np.swapaxes(passed, -1, -2)).sum(0) * 0.3 / steps
    np.testing.assert_allclose(law.gained(law.passage(0.3)), integral, rtol=1e-4, atol=1e-6)


def test_untreated_waves_have_the_declared_spread_and_turn_once_a_cycle():
    """What a subject swings by correlates, in its own time, as the passage says."""
    law, p = Law(P), dataclasses.replace(P, starts=(np.inf, 0.0))
    lags, products = [], []
    for course in (simulate(6, index, p) for index in range(40)):
        away, cycles = course.state[:, 0] - course.level, course.pace * course.times
        for step in range(8):
            lags.append(cycles[step:] - cycles[: len(cycles) - step])
            products.append(away[step:] * away[: len(cycles) - step])
    lag, product = np.concatenate(lags), np.concatenate(products)
    for low, high in [(-1.0, 0.0), (0.0, 0.1), (0.2, 0.3), (0.45, 0.55)]:
        some = (lag > low) & (lag <= high)
        expected = (law.passage(lag[some]) @ law.spread)[:, 0, 0].mean()
        assert product[some].mean() == pytest.approx(expected, abs=0.1)


def test_measures_show_the_state_with_the_declared_errors(courses):
    for place, (shown, sd) in enumerate(zip((0, 0, 2), P.noise, strict=True)):
        error = np.concatenate([(c.values[:, place] - c.state[:, shown])[c.observed[:, place]] for c in courses])
        assert error.mean() == pytest.approx(0, abs=4 * sd / np.sqrt(len(error)))
        assert error.std() == pytest.approx(sd, rel=0.05)


def test_gaps_and_orders_hang_on_pace_and_on_the_symptoms_last_measured_as_declared(courses):
    gaps, orders, chances = [], [], []
    for course in courses:
        felt = 0.0
        for k in range(len(course.times)):
            if k:
                gaps.append(np.log(course.times[k] - course.times[k - 1]) - log_gap(course.pace, felt, P))
            orders.append(course.observed[k, :3])
            chances.append(ordered(course.pace, felt, P))
            felt = course.values[k, 0] if course.observed[k, 0] else felt
    assert np.mean(gaps) == pytest.approx(0, abs=0.05)
    assert np.std(gaps) == pytest.approx(P.gap[1], rel=0.05)
    orders, chances = np.array(orders), np.array(chances)
    for place in range(len(MEASURES)):
        for half in np.array_split(np.argsort(chances[:, place]), 2):
            assert orders[half, place].mean() == pytest.approx(chances[half, place].mean(), abs=0.03)
    share = [course.observed[:, 1].mean() for course in courses]
    assert np.corrcoef(share, np.log([course.pace for course in courses]))[0, 1] > 0.5


def test_the_dose_hangs_on_what_was_measured(courses):
    values = np.concatenate([c.values[1:] for c in courses])
    observed = np.concatenate([c.observed[1:] for c in courses])
    before = np.concatenate([c.values[:-1, 3] for c in courses])
    started = (before == 0) & (values[:, 3] == 1)
    known = observed[:, 1]
    assert (values[started & known, 1] > P.starts[0]).all()
    due = (before == 0) & known & (values[:, 1] > P.starts[0])
    assert started[due].mean() == pytest.approx(P.starts[1], abs=4 * 0.5 / np.sqrt(due.sum()))
    assert not started[~observed[:, :2].any(1)].any()


def test_a_subject_hangs_on_the_seed_and_its_number_alone():
    few, more = list(rhythm(2, 3)), list(rhythm(4, 3))
    assert few == more[:2]
    assert few[0] != next(rhythm(1, 4))
    for subject in more:
        assert P.visits[0] <= len(subject.visits) <= P.visits[1]
        for visit in subject.visits:
            assert ("flare" in visit.values) == ("activity" in visit.values)
