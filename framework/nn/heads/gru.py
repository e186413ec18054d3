"""The gated recurrent unit (Cho et al. 2014), with masks and the time since the last visit among its inputs."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from framework.nn.heads.rnn import Cell, Steps
from framework.nn.layers import Dense


class GRU(Cell):
    """Eqs. 5-8 of Cho et al. 2014 on the input [x, which of x was observed, log(1 + dt)]."""

    def __init__(self, features: int, *, d_in: int, rngs: nnx.Rngs):
        self.features = features
        self.gates = Dense(2 * d_in + 1 + features, 2 * features, rngs=rngs)
        self.candidate = Dense(2 * d_in + 1 + features, features, rngs=rngs)
        self.out = Dense(features + 2, features, rngs=rngs)

    def initial(self, batch: int) -> Float[Array, "b h"]:
        return jnp.zeros((batch, self.features))

    def steps(self, x: Float[Array, "b t d"], observed: Bool[Array, "b t d"], dt: Float[Array, "b t"]) -> Steps:
        return gated(self.gates, self.candidate, inputs(x, observed, dt))

    def emit(self, carry: Float[Array, "b q h"], ahead: Float[Array, "b q"]) -> Float[Array, "b q h"]:
        return jnp.tanh(self.out(after(carry, ahead)))


def gated(gates: Dense, candidate: Dense, seen: Float[Array, "b t i"]) -> Steps:
    """Eqs. 5-8 of Cho et al. 2014, the products with the input `seen` computed beforehand."""
    enter, gate_weights = gates.apart(seen)
    offer, candidate_weights = candidate.apart(seen)

    def update(
        carry: Float[Array, "*b h"], enter: Float[Array, "*b g"], offer: Float[Array, "*b h"]
    ) -> Float[Array, "*b h"]:
        reset, keep = jnp.split(jax.nn.sigmoid(enter + carry @ gate_weights), 2, axis=-1)  # Eqs. 5, 6
        new = jnp.tanh(offer + (reset * carry) @ candidate_weights)  # Eq. 8
        return keep * carry + (1 - keep) * new  # Eq. 7

    return (enter, offer), update


def inputs(x: Float[Array, "*b d"], observed: Bool[Array, "*b d"], dt: Float[Array, "*b"]) -> Float[Array, "*b i"]:
    """Inputs of a cell without a mechanism for gaps: values, their masks, and log(1 + dt)."""
    return jnp.concatenate([jnp.where(observed, x, 0), observed.astype(x.dtype), jnp.log1p(dt)[..., None]], axis=-1)


def after(state: Float[Array, "b q h"], ahead: Float[Array, "b q"]) -> Float[Array, "b q i"]:
    """A state concatenated with the horizon of the query."""
    return jnp.concatenate([state, ahead[..., None], jnp.log1p(ahead)[..., None]], axis=-1)
