"""minimalRNN (Chen 2017) in monthly steps, missing values imputed by its own forecast (Nguyen et al. 2020)."""

from abc import abstractmethod
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from framework.configurable import configurable
from framework.nn.dropout import dropout
from framework.nn.heads.gru import after
from framework.nn.heads.rnn import Cell, Steps
from framework.nn.layers import Dense
from framework.types import Arr


@configurable("imputation")
class Imputation:
    """Imputation of a missing variable.

    A function of its forecast, its last observed value (0, the mean, before there is one), its value at the next visit
    (the last one, where that visit has none) and the elapsed share of the gap.
    """

    @abstractmethod
    def __call__(self, forecast: Array, last: Array, coming: Array, share: Array) -> Array: ...


@dataclass(frozen=True)
class Forecast(Imputation):
    """Model filling: the network's forecast."""

    def __call__(self, forecast: Array, last: Array, coming: Array, share: Array) -> Array:
        return forecast


@dataclass(frozen=True)
class ForwardFill(Imputation):
    """Forward filling: the last observed value."""

    def __call__(self, forecast: Array, last: Array, coming: Array, share: Array) -> Array:
        return last


@dataclass(frozen=True)
class LinearInterpolation(Imputation):
    """Linear interpolation between the last observed value and the next visit's, which lies before the origin."""

    def __call__(self, forecast: Array, last: Array, coming: Array, share: Array) -> Array:
        return last + share * (coming - last)


class MinimalRNN(Cell):
    """One step a month (`per_year` 12) from visit to visit, and on to the query with forecasts alone.

    The carry is (state, the month's imputed input, last observed values, dropout mask of the state).
    A gap takes as many steps as it has whole months, at least one and at most `limit`. The forecast of a month is
    trained through the queries of later months; the dropout mask is the same at all times.
    """

    def __init__(self, features: int, fill: Imputation, per_year: int, limit: int, *, d_in: int, rngs: nnx.Rngs):
        self.features, self.fill, self.per_year, self.limit = features, fill, per_year, limit
        self.change = Dense(features, d_in, gain=0.1, rngs=rngs)
        self.enter = Dense(d_in, features, rngs=rngs)
        self.gate = Dense(2 * features, features, rngs=rngs)
        self.out = Dense(features + d_in + 2, features, rngs=rngs)

    def initial(self, batch: int) -> tuple:
        state, x = jnp.zeros((batch, self.features)), jnp.zeros((batch, self.change.weight.shape[1]))
        return state, x, x, jnp.ones_like(state)

    def init_with_dropout(self, carry: tuple, key: Key[Array, ""], rate: Float[Arr, ""] | float) -> tuple:
        return *carry[:3], dropout(carry[3], rate, key)

    def steps(self, x: Float[Array, "b t d"], observed: Bool[Array, "b t d"], dt: Float[Array, "b t"]) -> Steps:
        return (x, observed, dt), self.update

    def update(
        self, carry: tuple, x: Float[Array, "b d"], observed: Bool[Array, "b d"], dt: Float[Array, " b"]
    ) -> tuple:
        months = jnp.maximum(self._months(dt), 1)
        coming = jnp.where(observed, x, carry[2])
        carry = self._walk(carry, months - 1, months, coming, self.limit - 1)
        filled = self.fill(self._forecast(carry), carry[2], coming, jnp.ones_like(dt)[:, None])
        state = self._month(carry, jnp.where(observed, x, filled))
        return *state[:2], coming, carry[3]

    def emit(self, carry: tuple, ahead: Float[Array, "b q"]) -> Float[Array, "b q h"]:
        months = self._months(ahead)
        # values after the origin are unknown: whatever the imputation, they are replaced by the forecast
        state, x, *_ = self._walk(carry, months, months, carry[2], self.limit, Forecast())
        return jnp.tanh(self.out(after(jnp.concatenate([state, x], -1), ahead)))

    def _months(self, years: Float[Array, "*b"]) -> Int[Array, "*b"]:
        return jnp.clip(jnp.round(years * self.per_year).astype(int), 0, self.limit)

    def _forecast(self, carry: tuple) -> Float[Array, "*b d"]:
        return carry[1] + self.change(carry[0])  # v̂_{t+1} = W_v h_t + v_t (Nguyen et al. 2020)

    def _month(self, carry: tuple, x: Float[Array, "*b d"]) -> tuple:
        state, _, last, keep = carry
        z = jnp.tanh(self.enter(x))  # z_t = tanh(W_x x_t + b_z) (Chen 2017)
        gate = jax.nn.sigmoid(self.gate(jnp.concatenate([state * keep, z], -1)))  # u_t = σ(U_h h + U_z z + b_u)
        return gate * state + (1 - gate) * z, x, last, keep  # h_t = u_t ⊙ h_{t-1} + (1 - u_t) ⊙ z_t

    def _walk(
        self, carry: tuple, count: Array, gap: Array, coming: Array, most: int, fill: Imputation | None = None
    ) -> tuple:
        """Take the first `count` of at most `most` monthly steps without observations, in a gap of `gap` months."""
        fill = fill or self.fill

        def month(carry: tuple, number: Array) -> tuple[tuple, None]:
            share = (number / jnp.maximum(gap, 1)).astype(coming.dtype)[..., None]
            filled = fill(self._forecast(carry), carry[2], coming, share)
            walked = (number <= count)[..., None]
            moved = self._month(carry, filled)
            return jax.tree.map(lambda new, old: jnp.where(walked, new, old), moved, carry), None

        return jax.lax.scan(month, carry, jnp.arange(1, most + 1))[0]
