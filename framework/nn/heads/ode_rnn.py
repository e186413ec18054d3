"""ODE-RNN (Rubanova et al. 2019): between visits a differential equation moves the state, a GRU takes visits in."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from framework.nn.heads.gru import after, gated, inputs
from framework.nn.heads.rnn import Cell, Steps
from framework.nn.layers import Dense


class ODERNN(Cell):
    """Algorithm 1 of Rubanova et al. 2019, `substeps` of the classical Runge-Kutta method to a gap.

    The slope dh/dt = f(h) is a network with one hidden layer of `width`; each component stays within ±1 a year, so
    that no gap, however long, blows the state up.
    """

    def __init__(self, features: int, width: int, substeps: int, *, d_in: int, rngs: nnx.Rngs):
        self.features, self.substeps = features, substeps
        self.slope_hidden = Dense(features, width, rngs=rngs)
        self.slope_out = Dense(width, features, gain=0.1, rngs=rngs)
        self.gates = Dense(2 * d_in + 1 + features, 2 * features, rngs=rngs)
        self.candidate = Dense(2 * d_in + 1 + features, features, rngs=rngs)
        self.out = Dense(features + 2, features, rngs=rngs)

    def initial(self, batch: int) -> Float[Array, "b h"]:
        return jnp.zeros((batch, self.features))

    def evolve(self, carry: Float[Array, "*b h"], dt: Float[Array, "*b"]) -> Float[Array, "*b h"]:
        """h' = ODESolve(f, h, gap), the gap rescaled to [0, 1]: dh/ds = dt f(h)."""
        size = dt[..., None] / self.substeps

        def substep(state: Array, _: None) -> tuple[Array, None]:  # Kutta 1901
            one = self.slope(state)
            two = self.slope(state + size / 2 * one)
            three = self.slope(state + size / 2 * two)
            four = self.slope(state + size * three)
            return state + size / 6 * (one + 2 * two + 2 * three + four), None

        return jax.lax.scan(substep, carry, length=self.substeps)[0]

    def slope(self, state: Float[Array, "*b h"]) -> Float[Array, "*b h"]:
        """The derivative of the state, per year."""
        return jnp.tanh(self.slope_out(jnp.tanh(self.slope_hidden(state))))

    def steps(self, x: Float[Array, "b t d"], observed: Bool[Array, "b t d"], dt: Float[Array, "b t"]) -> Steps:
        return gated(self.gates, self.candidate, inputs(x, observed, dt))  # h = GRUCell(h', x)

    def emit(self, carry: Float[Array, "b q h"], ahead: Float[Array, "b q"]) -> Float[Array, "b q h"]:
        return jnp.tanh(self.out(after(self.evolve(carry, ahead), ahead)))
