"""Outputs of a network for a target: class probabilities, monotone quantiles of a value, or survival."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from framework.nn.layers import Dense
from framework.scores import cross_entropy, interval_censored, ordinal_log_probs, pinball
from framework.types import LEVELS, Arr, Classes, Interval, SurvivalForecast, Truth, Values


class HorizonLinear(nnx.Module):
    """A linear layer whose weights drift with time ahead: A e + ahead · B e, both 0 at the start."""

    def __init__(self, d_in: int, d_out: int, *, rngs: nnx.Rngs):
        self.level = Dense(d_in, d_out, gain=0.0, rngs=rngs)
        self.drift = Dense(d_in, d_out, gain=0.0, rngs=rngs)

    def __call__(self, e: Float[Array, "b q e"], ahead: Float[Array, "b q"]) -> Float[Array, "b q o"]:
        return self.level(e) + ahead[..., None] * self.drift(e)


class ClassOutput(nnx.Module):
    """Softmax over the levels of a class target."""

    def __init__(self, classes: int, d_in: int, *, rngs: nnx.Rngs):
        self.logits = HorizonLinear(d_in, classes, rngs=rngs)

    def __call__(self, e: Float[Array, "b q e"], ahead: Float[Array, "b q"]) -> Float[Array, "b q c"]:
        return self.logits(e, ahead)

    def loss(self, raw: Float[Array, "b q c"], truth: Truth, base: Array, scale: Array) -> Float[Array, "b q"]:
        """Cross-entropy, in nats."""
        return cross_entropy(jax.nn.log_softmax(raw), _level(truth))

    def forecast(self, raw: Float[Array, "b q c"], base: Array, scale: Array) -> Classes:
        return Classes(jax.nn.softmax(raw))


class OrdinalOutput(nnx.Module):
    """Cumulative logits of ordered levels (McCullagh 1980): one location e, ascending thresholds.

    It starts with levels equally likely. A level that training never shows is squeezed, never to a probability of 0.
    """

    def __init__(self, classes: int, d_in: int, *, rngs: nnx.Rngs):
        self.location = HorizonLinear(d_in, 1, rngs=rngs)
        self.first = nnx.Param(jnp.zeros(()))
        self.gaps = nnx.Param(jnp.zeros(classes - 2))

    def __call__(self, e: Float[Array, "b q e"], ahead: Float[Array, "b q"]) -> Float[Array, "b q c"]:
        """The log of each level's probability: of P(y <= k) = sigmoid(threshold_k - location), the differences."""
        classes = self.gaps.shape[0] + 2
        start = jax.scipy.special.logit(jnp.arange(1, classes) / classes)
        steps = _steps(self.gaps[...], jnp.diff(start))
        cut = self.first[...] + start[0] + jnp.pad(steps, (1, 0)) - self.location(e, ahead)
        width = jnp.maximum(jnp.diff(steps, prepend=0), jnp.finfo(steps.dtype).tiny)
        return ordinal_log_probs(cut, width)

    def loss(self, raw: Float[Array, "b q c"], truth: Truth, base: Array, scale: Array) -> Float[Array, "b q"]:
        """Cross-entropy, in nats."""
        return cross_entropy(raw, _level(truth))

    def forecast(self, raw: Float[Array, "b q c"], base: Array, scale: Array) -> Classes:
        return Classes(jnp.exp(raw))


class QuantileOutput(nnx.Module):
    """The median and the steps away from it, each step positive, so that quantiles never cross.

    In units of `scale` around `base`; it starts as the quantiles of a standard normal.
    """

    def __init__(self, d_in: int, *, rngs: nnx.Rngs):
        self.raw = HorizonLinear(d_in, len(LEVELS), rngs=rngs)

    def __call__(self, e: Float[Array, "b q e"], ahead: Float[Array, "b q"]) -> Float[Array, "b q l"]:
        middle = LEVELS.index(0.5)
        start = norm.ppf(jnp.asarray(LEVELS))
        raw = self.raw(e, ahead)
        median = raw[..., middle : middle + 1]
        up = _steps(raw[..., middle + 1 :], jnp.diff(start[middle:]))
        down = _steps(raw[..., :middle][..., ::-1], jnp.diff(start)[:middle][::-1])
        return jnp.concatenate([median - down[..., ::-1], median, median + up], axis=-1)

    def loss(
        self, raw: Float[Array, "b q l"], truth: Truth, base: Float[Array, "b q"], scale: Float[Array, "b q"]
    ) -> Float[Array, "b q"]:
        """Pinball loss averaged over the levels, in units of `scale`."""
        return pinball(raw, (jnp.where(truth.observed, truth.value, base) - base) / scale).mean(-1)

    def forecast(self, raw: Float[Array, "b q l"], base: Float[Array, "b q"], scale: Float[Array, "b q"]) -> Values:
        return Values(base[..., None] + scale[..., None] * raw)


class HazardOutput(nnx.Module):
    """Discrete-time hazards (Gensheimer & Narasimhan 2019), one for each stretch of years between `edges` and beyond.

    The hazard of a stretch is sigmoid(raw), so that survival through it is 1 - sigmoid(raw) = exp(-softplus(raw));
    within a stretch the cumulative hazard is a line, and behind the last edge it goes on as in the last stretch.
    Survival can therefore be asked for, and events given, at any time. It starts at a `rate` of events a year.
    """

    def __init__(self, edges: tuple[float, ...], d_in: int, *, rngs: nnx.Rngs):
        self.edges = tuple(edges)  # years after the origin, ascending, the first stretch begins at 0
        self.raw = Dense(d_in, len(self.edges), gain=0.0, rngs=rngs)

    def __call__(self, e: Float[Array, "b q e"], rate: Float[Arr, ""] | float = 0.1) -> Float[Array, "b q s"]:
        lengths = jnp.diff(jnp.asarray(self.edges), prepend=0)
        return self.raw(e) + jnp.log(jnp.expm1(rate * lengths))  # softplus of it is the rate times the length

    def loss(self, raw: Float[Array, "b q s"], truth: Interval, ahead: Array | None = None) -> Float[Array, "b q"]:
        """Minus the log of the chance that the event came in (lo, hi], S(lo) - S(hi), whenever was asked."""
        lo, hi = jnp.where(truth.observed, truth.lo, 0), jnp.where(truth.observed, truth.hi, jnp.inf)
        return interval_censored(partial(self._cumulated, raw), lo, hi)

    def forecast(self, raw: Float[Array, "b q s"], ahead: Float[Array, "b q"]) -> SurvivalForecast:
        return SurvivalForecast(jnp.exp(-self._cumulated(raw, ahead)))

    def _cumulated(self, raw: Float[Array, "b q s"], years: Float[Arr, "b q"]) -> Float[Array, "b q"]:
        """The cumulative hazard, -log S."""
        ends = jnp.asarray(self.edges, raw.dtype)
        starts = jnp.concatenate([jnp.zeros(1, raw.dtype), ends[:-1]])
        share = (jnp.asarray(years)[..., None] - starts) / (ends - starts)
        gone = jnp.maximum(share.at[..., :-1].min(1), 0)
        return (jax.nn.softplus(raw) * gone).sum(-1)


def _level(truth: Truth) -> Float[Array, "b q"]:
    """The level that came true; the first one where none was observed."""
    return jnp.where(truth.observed, truth.value, 0)


def _steps(raw: Float[Array, "*b l"], start: Float[Array, " l"]) -> Float[Array, "*b l"]:
    """Cumulated positive steps that equal `start` where raw is 0."""
    return jnp.cumsum(jax.nn.softplus(raw + jnp.log(jnp.expm1(start))), axis=-1)
