"""The best forecast of the cohort `rhythm` that there can be: the posterior predictive under its own law.

Given the pace, everything is linear and Gaussian, and a Kalman filter (Kalman 1960) over (x, v, w, level, response) is
exact. The pace is summed over on a grid of its logarithm, each of its values weighed by how likely it makes the
measurements, and the gaps and orders too, since they tell of it.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtr

from framework.data.simulate.rhythm import MEASURES, SHOWS, Law, Numbers, Parameters, log_gap, ordered
from framework.types import LEVELS

ACTIVITY = MEASURES.index("activity")
GRID = 101  # values of the pace, to 3.5 sd either side


class Filter:
    """The beliefs about n subjects for each of g paces: means (n, g, 5), covariances and log weights (n, g)."""

    def __init__(self, subjects: int, p: Parameters, grid: int = GRID):
        self.p, self.law = p, Law(p)
        z = np.linspace(-3.5, 3.5, grid)
        self.pace = p.pace[0] * np.exp(p.pace[1] * z)
        self.log_weight = np.tile(-(z**2) / 2, (subjects, 1))
        mean, covariance = np.zeros(5), np.zeros((5, 5))
        mean[4] = p.response[0]
        covariance[:3, :3] = self.law.spread
        covariance[np.ix_([0, 2, 3], [0, 2, 3])] += p.level**2  # what starts at the level shares its uncertainty
        covariance[4, 4] = p.response[1] ** 2
        self.mean = np.tile(mean, (subjects, grid, 1))
        self.covariance = np.tile(covariance, (subjects, grid, 1, 1))

    def wait(self, gap: Float[np.ndarray, " n"], felt: Float[np.ndarray, " n"], dose: Float[np.ndarray, " n"]) -> None:
        """So many years on, on a dose since the visit at which symptoms were last `felt`."""
        passage = self.law.passage(self.pace * gap[:, None])
        pull = (np.eye(3) - passage) @ np.array([1.0, 0, 1])  # towards the equilibrium
        step = np.broadcast_to(np.eye(5), self.covariance.shape).copy()
        step[..., :3, :3], step[..., :3, 3], step[..., :3, 4] = passage, pull, pull * dose[:, None, None]
        self.mean = (step @ self.mean[..., None])[..., 0]
        self.covariance = step @ self.covariance @ np.swapaxes(step, -1, -2)
        self.covariance[..., :3, :3] += self.law.gained(passage)
        away = (np.log(gap)[:, None] - log_gap(self.pace, felt[:, None], self.p)) / self.p.gap[1]
        self.log_weight = self.log_weight - away**2 / 2

    def order(self, measure: int, taken: Bool[np.ndarray, " n"], felt: Float[np.ndarray, " n"]) -> None:
        """A measure was taken, or was not."""
        chance = ordered(self.pace, felt[:, None], self.p)[..., measure]
        self.log_weight = self.log_weight + np.log(np.where(taken[:, None], chance, 1 - chance))

    def measure(self, measure: int, value: Float[np.ndarray, " n"], taken: Bool[np.ndarray, " n"]) -> None:
        """Take in what was measured, where it was."""
        place, noise = SHOWS[measure], self.p.noise[measure]
        shown = self.covariance[..., place]
        variance = shown[..., place] + noise**2
        gain = np.where(taken[:, None, None], shown / variance[..., None], 0)
        error = value[:, None] - self.mean[..., place]
        self.mean = self.mean + gain * error[..., None]
        self.covariance = self.covariance - gain[..., None] * shown[..., None, :]
        log_likelihood = -(error**2 / variance + np.log(variance)) / 2
        self.log_weight = self.log_weight + np.where(taken[:, None], log_likelihood, 0)

    def weight(self) -> Float[np.ndarray, "n g"]:
        shifted = np.exp(self.log_weight - self.log_weight.max(1, keepdims=True))
        return shifted / shifted.sum(1, keepdims=True)

    def forecast(self, felt: Float[np.ndarray, " n"], levels: tuple[float, ...]) -> Float[np.ndarray, "n l"]:
        """Quantiles of the activity that a test would show now, given that it is ordered."""
        weight = self.weight() * ordered(self.pace, felt[:, None], self.p)[..., ACTIVITY]
        sd = np.sqrt(self.covariance[..., 0, 0] + self.p.noise[ACTIVITY] ** 2)
        return _quantiles(weight / weight.sum(1, keepdims=True), self.mean[..., 0], sd, levels)


def forecasts(
    times: Float[np.ndarray, "n t"],
    values: Float[np.ndarray, "n t 4"],
    observed: Bool[np.ndarray, "n t 4"],
    valid: Bool[np.ndarray, "n t"],
    p: Parameters | None = None,
    levels: tuple[float, ...] = LEVELS,
    grid: int = GRID,
) -> Float[np.ndarray, "n t l"]:
    """Quantiles of activity at each visit, given all visits before it and when it is; values in the order of a course.

    At the first visit they are the prior's; behind a subject's last one they mean nothing.
    """
    count, visits = times.shape
    belief, felt, forecasts = Filter(count, p or Parameters(), grid), np.zeros(count), []
    for k in range(visits):
        here = observed[:, k, :3] & valid[:, k, None]
        if k:
            belief.wait(np.where(valid[:, k], times[:, k] - times[:, k - 1], 1.0), felt, values[:, k - 1, 3])
        forecasts.append(belief.forecast(felt, levels))
        for measure in range(3):
            belief.order(measure, here[:, measure], felt)
            belief.measure(measure, values[:, k, measure], here[:, measure])
        felt = np.where(here[:, 0], values[:, k, 0], felt)
    return np.stack(forecasts, axis=1)


def _quantiles(
    weight: Float[np.ndarray, "n g"], mean: Float[np.ndarray, "n g"], sd: Numbers, levels: tuple[float, ...]
) -> Float[np.ndarray, "n l"]:
    """Quantiles of mixtures of normals, by halving the interval that holds them."""
    low = np.tile((mean - 8 * sd).min(1)[:, None], (1, len(levels)))
    high = np.tile((mean + 8 * sd).max(1)[:, None], (1, len(levels)))
    for _ in range(40):
        middle = (low + high) / 2
        below = (weight[..., None] * ndtr((middle[:, None] - mean[..., None]) / np.asarray(sd)[..., None])).sum(1)
        low, high = np.where(below < levels, middle, low), np.where(below < levels, high, middle)
    return (low + high) / 2
