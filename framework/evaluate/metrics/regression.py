"""Scores of a number's quantiles and of its point forecast, in the target's units."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from framework.evaluate.metrics.base import Mean
from framework.scores import crps, pinball
from framework.types import LEVELS, MEDIAN, Arr


def point(prediction: Float[Array, "q p"]) -> Float[Array, " q"]:
    """The point forecast: what stands behind the quantiles, the median where nothing does."""
    return prediction[:, MEDIAN if prediction.shape[1] == len(LEVELS) else len(LEVELS)]


def quantiles(prediction: Float[Array, "q p"]) -> Float[Array, "q l"]:
    """The quantiles alone."""
    return prediction[:, : len(LEVELS)]


@dataclass(frozen=True)
class MAE(Mean):
    """Mean absolute error of the point forecast."""

    title = "MAE"
    better = "lower"

    def terms(self, prediction: Float[Array, "q p"], truth: Float[Array, " q"]) -> Float[Array, "q k"]:
        return jnp.abs(point(prediction) - truth)[:, None]


@dataclass(frozen=True)
class RMSE(Mean):
    """Root mean squared error of the point forecast."""

    title = "RMSE"
    better = "lower"

    def terms(self, prediction: Float[Array, "q p"], truth: Float[Array, " q"]) -> Float[Array, "q k"]:
        return ((point(prediction) - truth) ** 2)[:, None]

    def finish(self, means: Float[Array, " k"]) -> Float[Array, ""]:
        return jnp.sqrt(means[0])


@dataclass(frozen=True)
class Interval(Mean):
    """The central interval that leaves out the outermost quantiles but for `inner` of them on each side."""

    inner: int = 0

    @property
    def nominal(self) -> float:
        return round(LEVELS[-1 - self.inner] - LEVELS[self.inner], 6)

    def ends(self, prediction: Float[Array, "q p"]) -> tuple[Float[Array, " q"], Float[Array, " q"]]:
        """The lower and the upper end."""
        return prediction[:, self.inner], prediction[:, len(LEVELS) - 1 - self.inner]


@dataclass(frozen=True)
class Coverage(Interval):
    """Share of truths inside the interval, its ends included; good is near to nominal, not high."""

    bounds = 0.0, 1.0

    @property
    def title(self) -> str:
        return f"coverage of {self.nominal:.0%}"

    @property
    def better(self) -> float:
        return self.nominal

    def terms(self, prediction: Float[Array, "q p"], truth: Float[Array, " q"]) -> Float[Array, "q k"]:
        low, high = self.ends(prediction)
        inside = (low <= truth) & (truth <= high)
        return inside.astype(jnp.float32)[:, None]


@dataclass(frozen=True)
class Width(Interval):
    """Mean width of the interval; narrower is better only where the coverage holds."""

    better = "lower"

    @property
    def title(self) -> str:
        return f"width of {self.nominal:.0%}"

    def terms(self, prediction: Float[Array, "q p"], truth: Float[Array, " q"]) -> Float[Array, "q k"]:
        low, high = self.ends(prediction)
        return (high - low)[:, None]


@dataclass(frozen=True)
class Pinball(Mean):
    """Mean quantile loss over the levels: about half the continuous ranked probability score (CRPS)."""

    title = "pinball"
    better = "lower"

    def terms(self, prediction: Float[Array, "q p"], truth: Float[Array, " q"]) -> Float[Array, "q k"]:
        return pinball(quantiles(prediction), truth).mean(axis=1, keepdims=True)


@dataclass(frozen=True)
class CRPS(Mean):
    """Mean continuous ranked probability score of the law that the quantiles describe; of a point, its MAE."""

    title = "CRPS"
    better = "lower"

    def terms(self, prediction: Float[Array, "q p"], truth: Float[Array, " q"]) -> Float[Array, "q k"]:
        return crps(quantiles(prediction), truth)[:, None]


@dataclass(frozen=True)
class R2(Mean):
    """Share of the truths' variance that the point forecast explains; NaN where the truths are all alike."""

    title = "R²"
    bounds = -math.inf, 1.0
    undefined = "all outcomes are alike"
    better = "higher"

    def prepare(self, prediction: Float[Arr, "q p"], truth: Float[Arr, " q"]) -> PyTree:
        # about their own mean, so that squares do not lose in float32 what differences need
        middle = jnp.mean(jnp.asarray(truth))
        return self.terms(jnp.asarray(prediction) - middle, jnp.asarray(truth) - middle)

    def terms(self, prediction: Float[Array, "q p"], truth: Float[Array, " q"]) -> Float[Array, "q k"]:
        return jnp.stack([(point(prediction) - truth) ** 2, truth, truth**2], axis=1)

    def finish(self, means: Float[Array, " k"]) -> Float[Array, ""]:
        error, mean, square = means
        variance = square - mean**2
        return jnp.where(variance > 1e-6 * square, 1 - error / variance, jnp.nan)


@dataclass(frozen=True)
class WES(Interval):
    """Weighted error score: absolute errors weighted by how narrow the 50% interval is (Marinescu et al. 2018).

    NaN where an interval has no width.
    """

    inner: int = 1
    title = "WES"
    undefined = "an interval has no width"
    better = "lower"

    def terms(self, prediction: Float[Array, "q p"], truth: Float[Array, " q"]) -> Float[Array, "q k"]:
        low, high = self.ends(prediction)
        width = high - low
        sure = jnp.where(width > 0, 1 / width, jnp.nan)
        return jnp.stack([sure * jnp.abs(point(prediction) - truth), sure], axis=1)

    def finish(self, means: Float[Array, " k"]) -> Float[Array, ""]:
        return means[0] / means[1]


@dataclass(frozen=True)
class CPA(Interval):
    """Coverage probability accuracy: how far the 50% interval's coverage, its ends excluded, is from 50%.

    Marinescu et al. 2018.
    """

    inner: int = 1
    title = "CPA"
    better = "lower"
    smooth = False

    def terms(self, prediction: Float[Array, "q p"], truth: Float[Array, " q"]) -> Float[Array, "q k"]:
        low, high = self.ends(prediction)
        inside = (low < truth) & (truth < high)
        return inside.astype(jnp.float32)[:, None]

    def finish(self, means: Float[Array, " k"]) -> Float[Array, ""]:
        return jnp.abs(means[0] - self.nominal)
