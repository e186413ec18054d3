"""Scores of a number's quantiles, in the target's units; the median is the point forecast."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from framework.evaluate.metric import Mean
from framework.types import LEVELS

MEDIAN = LEVELS.index(0.5)


@dataclass(frozen=True)
class MAE(Mean):
    """Mean absolute error of the median."""

    title = "MAE"
    better = "lower"

    def terms(self, prediction: Float[Array, "q p"], truth: Float[Array, " q"]) -> Float[Array, "q k"]:
        return jnp.abs(prediction[:, MEDIAN] - truth)[:, None]


@dataclass(frozen=True)
class RMSE(Mean):
    """Root mean squared error of the median."""

    title = "RMSE"
    better = "lower"

    def terms(self, prediction: Float[Array, "q p"], truth: Float[Array, " q"]) -> Float[Array, "q k"]:
        return ((prediction[:, MEDIAN] - truth) ** 2)[:, None]

    def finish(self, means: Float[Array, " k"]) -> Float[Array, ""]:
        return jnp.sqrt(means[0])


@dataclass(frozen=True)
class Interval(Mean):
    """The central interval that leaves out the outermost quantiles but for `inner` of them on each side."""

    inner: int = 0

    @property
    def nominal(self) -> float:
        return round(LEVELS[-1 - self.inner] - LEVELS[self.inner], 6)


@dataclass(frozen=True)
class Coverage(Interval):
    """Share of truths inside the interval, its ends included; good is near to nominal, not high."""

    @property
    def title(self) -> str:
        return f"coverage of {self.nominal:.0%}"

    @property
    def better(self) -> float:
        return self.nominal

    def terms(self, prediction: Float[Array, "q p"], truth: Float[Array, " q"]) -> Float[Array, "q k"]:
        inside = (prediction[:, self.inner] <= truth) & (truth <= prediction[:, -1 - self.inner])
        return inside.astype(jnp.float32)[:, None]


@dataclass(frozen=True)
class Width(Interval):
    """Mean width of the interval; narrower is better only where the coverage holds."""

    better = "lower"

    @property
    def title(self) -> str:
        return f"width of {self.nominal:.0%}"

    def terms(self, prediction: Float[Array, "q p"], truth: Float[Array, " q"]) -> Float[Array, "q k"]:
        return (prediction[:, -1 - self.inner] - prediction[:, self.inner])[:, None]


@dataclass(frozen=True)
class Pinball(Mean):
    """Mean quantile loss over the levels: about half the continuous ranked probability score (CRPS)."""

    title = "pinball"
    better = "lower"

    def terms(self, prediction: Float[Array, "q p"], truth: Float[Array, " q"]) -> Float[Array, "q k"]:
        above, level = truth[:, None] - prediction, jnp.array(LEVELS)
        return jnp.mean(jnp.maximum(level * above, (level - 1) * above), axis=1, keepdims=True)
