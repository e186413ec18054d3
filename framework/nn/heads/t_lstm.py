"""T-LSTM, the time-aware LSTM (Baytas et al. 2017): the short-term part of memory decays over a gap."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from framework.nn.heads.gru import after, inputs
from framework.nn.heads.lstm import State, remembered
from framework.nn.heads.rnn import Cell, Steps
from framework.nn.layers import Dense


class TLSTM(Cell):
    """The carry is (hidden state, memory); dt enters through the decay of memory, and as an input as elsewhere."""

    def __init__(self, features: int, *, d_in: int, rngs: nnx.Rngs):
        self.features = features
        self.gates = Dense(2 * d_in + 1 + features, 4 * features, rngs=rngs)
        self.short = Dense(features, features, rngs=rngs)
        self.out = Dense(features + 2, features, rngs=rngs)

    def initial(self, batch: int) -> State:
        return jnp.zeros((batch, self.features)), jnp.zeros((batch, self.features))

    def steps(self, x: Float[Array, "b t d"], observed: Bool[Array, "b t d"], dt: Float[Array, "b t"]) -> Steps:
        enter, weights = self.gates.apart(inputs(x, observed, dt))

        def update(carry: State, enter: Float[Array, "b g"], dt: Float[Array, " b"]) -> State:
            hidden, memory = carry
            return remembered(enter + hidden @ weights, self.adjusted(memory, dt))

        return (enter, dt), update

    def adjusted(self, memory: Float[Array, "*b h"], dt: Float[Array, "*b"]) -> Float[Array, "*b h"]:
        """Baytas et al. 2017, from "short-term memory" to "adjusted previous memory"."""
        short = jnp.tanh(self.short(memory))  # C^S = tanh(W_d C + b_d)
        decay = 1 / jnp.log(jnp.e + dt)  # g(dt), as they advise for long gaps; 1 where there is none
        return memory - short + short * decay[..., None]  # C^T = C - C^S;  C* = C^T + C^S g(dt)

    def emit(self, carry: tuple, ahead: Float[Array, "b q"]) -> Float[Array, "b q h"]:
        return jnp.tanh(self.out(after(carry[0], ahead)))
