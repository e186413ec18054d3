"""The exact forecast of `rhythm`: it is calibrated, and given one pace it is plain Gaussian conditioning."""

import dataclasses

import numpy as np
import pytest

from framework.data.simulate.kalman import Filter, forecasts
from framework.data.simulate.rhythm import Course, Law, Parameters, simulate


def padded(courses: list[Course]) -> tuple[np.ndarray, ...]:
    longest = max(len(course.times) for course in courses)

    def pad(rows: np.ndarray) -> np.ndarray:
        return np.pad(rows, ((0, longest - len(rows)), *[(0, 0)] * (rows.ndim - 1)))

    stacked = [np.stack([pad(getattr(course, name)) for course in courses]) for name in ("times", "values", "observed")]
    return *stacked, np.stack([np.arange(longest) < len(course.times) for course in courses])


def test_its_intervals_cover_what_they_say_and_longer_histories_help():
    p = dataclasses.replace(Parameters(), visits=(40, 60))
    times, values, observed, valid = padded([simulate(2, index, p) for index in range(60)])
    told = forecasts(times, values, observed, valid, p, grid=21)
    asked, truth = observed[..., 1] & valid, values[..., 1]
    inside = [(told[..., k] <= truth) & (truth <= told[..., -1 - k]) for k in (0, 1)]
    assert inside[0][asked].mean() == pytest.approx(0.9, abs=0.03)
    assert inside[1][asked].mean() == pytest.approx(0.5, abs=0.04)
    error = np.abs(told[..., 2] - truth)
    assert error[:, 20:][asked[:, 20:]].mean() < 0.85 * error[:, :5][asked[:, :5]].mean()


def test_with_a_known_pace_it_is_gaussian_conditioning():
    """The joint normal of all states and constants written out, and conditioned on everything measured."""
    p = dataclasses.replace(Parameters(), pace=(2.5, 1e-9), visits=(6, 6))
    course, law = simulate(1, 0, p), Law(p)
    count, pull = len(course.times), np.array([1.0, 0, 1])
    # every state is linear in (level, response, first deviation, one shock a gap)
    linear, covariance = np.zeros((count, 3, 5 + 3 * (count - 1))), np.eye(5 + 3 * (count - 1))
    covariance[0, 0], covariance[1, 1], covariance[2:5, 2:5] = p.level**2, p.response[1] ** 2, law.spread
    linear[0, :, 0], linear[0, :, 2:5] = pull, np.eye(3)
    for k in range(1, count):
        passage = law.passage(2.5 * (course.times[k] - course.times[k - 1]))
        rest = np.zeros((3, linear.shape[2]))
        rest[:, 0], rest[:, 1] = pull, pull * course.values[k - 1, 3]
        linear[k] = rest + passage @ (linear[k - 1] - rest)
        shock = slice(5 + 3 * (k - 1), 8 + 3 * (k - 1))
        linear[k, :, shock], covariance[shock, shock] = np.eye(3), law.gained(passage)
    start = np.zeros(linear.shape[2])
    start[1] = p.response[0]
    rows, told, noise = [], [], []
    for k in range(count - 1):
        for measure in np.flatnonzero(course.observed[k, :3]):
            rows.append(linear[k, (0, 0, 2)[measure]])
            told.append(course.values[k, measure])
            noise.append(p.noise[measure] ** 2)
    seen = np.array(rows)
    gain = covariance @ seen.T @ np.linalg.inv(seen @ covariance @ seen.T + np.diag(noise))
    mean = linear[-1, 0] @ (start + gain @ (np.array(told) - seen @ start))
    variance = linear[-1, 0] @ (covariance - gain @ seen @ covariance) @ linear[-1, 0] + p.noise[1] ** 2
    times, values, observed, valid = padded([course])
    found = forecasts(times, values, observed, valid, p, levels=(0.5, 0.8413447460685429), grid=3)[0, -1]
    np.testing.assert_allclose(found, [mean, mean + np.sqrt(variance)], atol=1e-6)


def test_it_finds_the_pace():
    p = dataclasses.replace(Parameters(), visits=(80, 80))
    courses = [simulate(4, index, p) for index in range(12)]
    times, values, observed, _ = padded(courses)
    belief, felt = Filter(12, p, 31), np.zeros(12)
    for k in range(80):
        if k:
            belief.wait(times[:, k] - times[:, k - 1], felt, values[:, k - 1, 3])
        for measure in range(3):
            belief.order(measure, observed[:, k, measure], felt)
            belief.measure(measure, values[:, k, measure], observed[:, k, measure])
        felt = np.where(observed[:, k, 0], values[:, k, 0], felt)
    found = belief.weight() @ np.log(belief.pace)
    assert np.abs(found - np.log([course.pace for course in courses])).mean() < 0.15
