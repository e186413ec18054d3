"""GRU-D (Che et al. 2018): the last observed values decay towards the mean, and the state towards 0, over gaps."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from framework.history import last_observed
from framework.nn.heads.gru import after, gated
from framework.nn.heads.rnn import Cell, Steps
from framework.nn.layers import Dense


class GRUD(Cell):
    """Equations of Che et al. 2018, section "GRU-D"; comments give their symbols.

    Inputs decay to `mean`, trained from 0, which is the mean of standardised variables. A query takes one step more,
    without observations.
    """

    def __init__(self, features: int, *, d_in: int, rngs: nnx.Rngs):
        self.features = features
        self.mean = nnx.Param(jnp.zeros(d_in))
        self.input_decay = nnx.Param(jnp.full(d_in, 0.1))  # W_γx, diagonal, with its b_γx
        self.input_offset = nnx.Param(jnp.zeros(d_in))
        self.state_decay = Dense(d_in, features, gain=0.1, rngs=rngs)  # W_γh, b_γh
        self.gates = Dense(2 * d_in + features, 2 * features, rngs=rngs)  # of [x̂, m, ĥ]: W, V, U of r and z
        self.candidate = Dense(2 * d_in + features, features, rngs=rngs)
        self.out = Dense(features + 2, features, rngs=rngs)

    def initial(self, batch: int) -> Float[Array, "b h"]:
        return jnp.zeros((batch, self.features))

    def steps(self, x: Float[Array, "b t d"], observed: Bool[Array, "b t d"], dt: Float[Array, "b t"]) -> Steps:
        return self._decayed(x, observed, *self._last(x, observed, dt))

    def query_inputs(
        self, x: Float[Array, "b t d"], observed: Bool[Array, "b t d"], dt: Float[Array, "b t"]
    ) -> tuple[Array, ...]:
        """The last observed value of each variable, and years since."""
        last, since = self._last(x, observed, dt)
        return jnp.where(observed, x, last), jnp.where(observed, 0, since)

    def emit(
        self, carry: Float[Array, "b q h"], ahead: Float[Array, "b q"], *query_inputs: Array
    ) -> Float[Array, "b q h"]:
        last, since = query_inputs
        entering, update = self._decayed(last, jnp.zeros(last.shape, bool), last, since + ahead[..., None])
        return jnp.tanh(self.out(after(update(carry, *entering), ahead)))

    def _last(
        self, x: Float[Array, "b t d"], observed: Bool[Array, "b t d"], dt: Float[Array, "b t"]
    ) -> tuple[Float[Array, "b t d"], Float[Array, "b t d"]]:
        """The last value of each variable observed before each visit, the mean where there is none, and years since."""
        last, has, since = before(x, observed, dt)
        return jnp.where(has, last, self.mean[...]), since

    def _decayed(
        self, x: Float[Array, "b s d"], observed: Bool[Array, "b s d"], last: Float[Array, "b s d"], since: Array
    ) -> Steps:
        """The inputs of a step, and the step: r, z, h̃ and h are those of the GRU on x̂, m and the decayed state."""
        fade = jnp.exp(-jax.nn.relu(self.input_decay[...] * since + self.input_offset[...]))  # γ_x
        filled = jnp.where(observed, x, fade * last + (1 - fade) * self.mean[...])  # x̂
        decay = jnp.exp(-jax.nn.relu(self.state_decay(since)))  # γ_h
        entering, update = gated(self.gates, self.candidate, jnp.concatenate([filled, observed.astype(x.dtype)], -1))

        def decayed(state: Array, decay: Array, *enters: Array) -> Array:
            return update(decay * state, *enters)  # ĥ = γ_h ⊙ h

        return (decay, *entering), decayed


def before(
    x: Float[Array, "b t d"], observed: Bool[Array, "b t d"], dt: Float[Array, "b t"]
) -> tuple[Float[Array, "b t d"], Bool[Array, "b t d"], Float[Array, "b t d"]]:
    """The last value of each variable observed before each visit, whether there is one, and years since (their δ).

    Where nothing was observed, years since the first visit.
    """
    time = jnp.cumsum(dt, axis=1)
    value, has, when = (jnp.pad(part[:, :-1], ((0, 0), (1, 0), (0, 0))) for part in last_observed(x, observed, time))
    return value, has, time[..., None] - when
