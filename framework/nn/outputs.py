"""What a forecaster says of a target: class probabilities, or monotone quantiles of a value."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from framework.nn.layers import Dense
from framework.types import LEVELS, Classes, Truth, Values


class Timed(nnx.Module):
    """A linear layer whose weights drift with time ahead: A e + ahead · B e, both 0 at the start."""

    def __init__(self, d_in: int, d_out: int, *, rngs: nnx.Rngs):
        self.level = Dense(d_in, d_out, gain=0.0, rngs=rngs)
        self.drift = Dense(d_in, d_out, gain=0.0, rngs=rngs)

    def __call__(self, e: Float[Array, "b q e"], ahead: Float[Array, "b q"]) -> Float[Array, "b q o"]:
        return self.level(e) + ahead[..., None] * self.drift(e)


class ClassOutput(nnx.Module):
    """Softmax over the levels of a class target."""

    def __init__(self, classes: int, d_in: int, *, rngs: nnx.Rngs):
        self.logits = Timed(d_in, classes, rngs=rngs)

    def __call__(self, e: Float[Array, "b q e"], ahead: Float[Array, "b q"]) -> Float[Array, "b q c"]:
        return self.logits(e, ahead)

    def loss(self, raw: Float[Array, "b q c"], truth: Truth, base: Array, scale: Array) -> Float[Array, "b q"]:
        """Cross-entropy, in nats."""
        label = jnp.where(truth.observed, truth.value, 0).astype(int)
        return -jnp.take_along_axis(jax.nn.log_softmax(raw), label[..., None], axis=-1)[..., 0]

    def forecast(self, raw: Float[Array, "b q c"], base: Array, scale: Array) -> Classes:
        return Classes(jax.nn.softmax(raw))


class QuantileOutput(nnx.Module):
    """The median and the steps away from it, each step positive, so that quantiles never cross.

    In units of `scale` around `base`; it starts as the quantiles of a standard normal.
    """

    def __init__(self, d_in: int, *, rngs: nnx.Rngs):
        self.raw = Timed(d_in, len(LEVELS), rngs=rngs)

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
        """Pinball loss averaged over the levels (Koenker & Bassett 1978), in units of `scale`."""
        error = ((jnp.where(truth.observed, truth.value, base) - base) / scale)[..., None] - raw
        levels = jnp.asarray(LEVELS)
        return jnp.maximum(levels * error, (levels - 1) * error).mean(-1)

    def forecast(self, raw: Float[Array, "b q l"], base: Float[Array, "b q"], scale: Float[Array, "b q"]) -> Values:
        return Values(base[..., None] + scale[..., None] * raw)


def _steps(raw: Float[Array, "b q l"], start: Float[Array, " l"]) -> Float[Array, "b q l"]:
    """Cumulated positive steps that equal `start` where raw is 0."""
    return jnp.cumsum(jax.nn.softplus(raw + jnp.log(jnp.expm1(start))), axis=-1)
