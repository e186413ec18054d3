"""Scores of class probabilities themselves; truths are level indices."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from framework.evaluate.metrics.base import Mean, Metric
from framework.evaluate.metrics.ranking import split_at
from framework.scores import LEAST_PROBABILITY, brier, log_loss
from framework.types import Arr

BINS = 10  # of the expected calibration error
STEPS = 30  # of Newton's method at most; four are usual
LEAST = 1e-6  # mean p(1 - p): where there is less all outcomes are as good as certain, and a slope has no end


@dataclass(frozen=True)
class LogLoss(Mean):
    """Mean of -log of the probability given to the truth (nats), which is clipped at 1e-6 from below."""

    title = "log loss"
    better = "lower"

    def terms(self, prediction: Float[Array, "q p"], truth: Float[Array, " q"]) -> Float[Array, "q k"]:
        return log_loss(prediction, truth)[:, None]


@dataclass(frozen=True)
class Brier(Mean):
    """Mean squared distance between the probabilities and the truth, summed over all classes (0 best, 2 worst)."""

    title = "Brier"
    better = "lower"

    def terms(self, prediction: Float[Array, "q p"], truth: Float[Array, " q"]) -> Float[Array, "q k"]:
        return brier(prediction, truth)[:, None]


@dataclass(frozen=True)
class CalibrationError(Mean):
    """Expected calibration error: in ten bins of a probability, how far its mean lies from how often it came true.

    Of the event, or, without `positive`, of the most probable class (Guo et al. 2017). Each bin counts by its members.
    """

    positive: int | None = None
    title = "calibration error"
    better = "lower"
    smooth = False

    def terms(self, prediction: Float[Array, "q p"], truth: Float[Array, " q"]) -> Float[Array, "q k"]:
        said, came = split_at(self.positive, prediction, truth)
        level = jnp.argmax(said, axis=1) if self.positive is None else jnp.ones_like(came)
        given = jnp.take_along_axis(said, level[:, None], axis=1)[:, 0]
        place = jnp.clip((given * BINS).astype(int), 0, BINS - 1)
        return jax.nn.one_hot(place, BINS) * (given - (came == level))[:, None]

    def finish(self, means: Float[Array, " k"]) -> Float[Array, ""]:
        return jnp.sum(jnp.abs(means))


@dataclass(frozen=True)
class CalibrationSlope(Metric):
    """Slope b of logit P(came) = a + b logit(said), by maximum likelihood; below 1 the forecasts are too extreme.

    Cox 1958. NaN where no finite slope is the likeliest: one outcome alone, or outcomes that a threshold tells apart.
    """

    positive: int = 1
    title = "calibration slope"
    bounds = -math.inf, math.inf
    undefined = "all outcomes are alike, or a threshold tells them apart, and no finite value is the likeliest"
    better = 1.0
    slope = True

    def prepare(self, prediction: Float[Arr, "q p"], truth: Float[Arr, " q"]) -> PyTree:
        said, came = split_at(self.positive, jnp.asarray(prediction), jnp.asarray(truth))
        event = jnp.clip(said[:, 1], LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
        logit = jnp.log(event) - jnp.log1p(-event)
        whole = recalibrate(logit, came, jnp.ones_like(logit), jnp.array([0.0, 1.0]), self.slope)
        return logit, came, jnp.where(jnp.isfinite(whole), whole, jnp.array([0.0, 1.0]))

    def score(self, prepared: PyTree, weight: Float[Arr, " q"]) -> Float[Array, ""]:
        logit, came, start = prepared
        return recalibrate(logit, came, jnp.asarray(weight), start, self.slope)[1 if self.slope else 0]


@dataclass(frozen=True)
class CalibrationIntercept(CalibrationSlope):
    """a of logit P(came) = a + logit(said): calibration in the large; above 0 events are forecast too rarely."""

    title = "calibration intercept"
    better = 0.0
    slope = False


def recalibrate(
    logit: Float[Array, " q"], came: Array, weight: Float[Array, " q"], start: Float[Array, "2"], slope: bool
) -> Float[Array, "2"]:
    """Intercept and slope of the logistic regression on a logit, or the intercept where the slope is held at 1.

    Newton's steps from `start`, as near to the answer as can be known: every weighting takes as many as the slowest.
    """
    total = jnp.sum(weight)

    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        at, _, count = state
        p = jax.nn.sigmoid(at[0] + at[1] * logit)
        error, spread = weight * (came - p), weight * p * (1 - p)
        g0, h00 = jnp.sum(error), jnp.sum(spread)
        h00 = jnp.where(h00 > LEAST * total, h00, jnp.nan)
        if not slope:
            move = jnp.array([1.0, 0.0]) * g0 / h00
        else:
            g1, h01, h11 = jnp.sum(error * logit), jnp.sum(spread * logit), jnp.sum(spread * logit**2)
            move = jnp.stack([h11 * g0 - h01 * g1, h00 * g1 - h01 * g0]) / (h00 * h11 - h01**2)
        return at + jnp.clip(move, -2, 2), jnp.max(jnp.abs(move)), count + 1

    def goes_on(state: tuple[Array, Array, Array]) -> Array:
        _, move, count = state
        return (move > 1e-5) & (count < STEPS)

    at, move, _ = lax.while_loop(goes_on, step, (start, jnp.where(total > 0, jnp.inf, jnp.nan), jnp.array(0)))
    return jnp.where(move <= 1e-5, at, jnp.nan)
