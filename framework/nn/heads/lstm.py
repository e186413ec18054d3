"""Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate of Gers et al. 2000) over irregular visits."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from framework.nn.heads.gru import after, inputs
from framework.nn.heads.recurrence import Cell
from framework.nn.layers import Dense


class LSTM(Cell):
    """The carry is (hidden state, memory); the forget gate starts open (Jozefowicz et al. 2015)."""

    def __init__(self, features: int, *, d_in: int, rngs: nnx.Rngs):
        self.features = features
        self.gates = Dense(2 * d_in + 1 + features, 4 * features, rngs=rngs)
        self.out = Dense(features + 2, features, rngs=rngs)

    def initial(self, batch: int) -> tuple[Float[Array, "b h"], Float[Array, "b h"]]:
        return jnp.zeros((batch, self.features)), jnp.zeros((batch, self.features))

    def update(
        self, carry: tuple, x: Float[Array, "b d"], observed: Bool[Array, "b d"], dt: Float[Array, " b"]
    ) -> tuple[Float[Array, "b h"], Float[Array, "b h"]]:
        hidden, memory = carry
        gates = self.gates(jnp.concatenate([inputs(x, observed, dt), hidden], -1))
        enter, forget, leave, candidate = jnp.split(gates, 4, axis=-1)
        memory = jax.nn.sigmoid(forget + 1) * memory + jax.nn.sigmoid(enter) * jnp.tanh(candidate)
        return jax.nn.sigmoid(leave) * jnp.tanh(memory), memory

    def emit(self, carry: tuple, ahead: Float[Array, "b q"]) -> Float[Array, "b q h"]:
        return jnp.tanh(self.out(after(carry[0], ahead)))
