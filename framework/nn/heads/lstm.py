"""Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate of Gers et al. 2000) over irregular visits."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from framework.nn.heads.gru import after, inputs
from framework.nn.heads.rnn import Cell, Steps
from framework.nn.layers import Dense

State = tuple[Float[Array, "b h"], Float[Array, "b h"]]


class LSTM(Cell):
    """The carry is (hidden state, memory); the forget gate starts open (Jozefowicz et al. 2015)."""

    def __init__(self, features: int, *, d_in: int, rngs: nnx.Rngs):
        self.features = features
        self.gates = Dense(2 * d_in + 1 + features, 4 * features, rngs=rngs)
        self.out = Dense(features + 2, features, rngs=rngs)

    def initial(self, batch: int) -> State:
        return jnp.zeros((batch, self.features)), jnp.zeros((batch, self.features))

    def steps(self, x: Float[Array, "b t d"], observed: Bool[Array, "b t d"], dt: Float[Array, "b t"]) -> Steps:
        enter, weights = self.gates.apart(inputs(x, observed, dt))

        def update(carry: State, enter: Float[Array, "b g"]) -> State:
            hidden, memory = carry
            return remembered(enter + hidden @ weights, memory)

        return (enter,), update

    def emit(self, carry: tuple, ahead: Float[Array, "b q"]) -> Float[Array, "b q h"]:
        return jnp.tanh(self.out(after(carry[0], ahead)))


def remembered(gates: Float[Array, "b g"], memory: Float[Array, "b h"]) -> State:
    """Hidden state and memory after the gates (input, forget, output, candidate) have acted; Gers et al. 2000."""
    enter, forget, leave, candidate = jnp.split(gates, 4, axis=-1)
    memory = jax.nn.sigmoid(forget + 1) * memory + jax.nn.sigmoid(enter) * jnp.tanh(candidate)
    return jax.nn.sigmoid(leave) * jnp.tanh(memory), memory
