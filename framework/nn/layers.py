"""The small pieces that several modules share."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


class Statistic(nnx.Variable):
    """A number fitted on the training subjects (a mean, a scale), carried with the model and never trained."""


class Dense(nnx.Module):
    """A linear layer, its output scaled by `gain` at the start (0: the model starts from its offset alone)."""

    def __init__(self, d_in: int, d_out: int, *, gain: float = 1.0, rngs: nnx.Rngs):
        draw = jax.random.normal(rngs.params(), (d_in, d_out)) * gain / jnp.sqrt(max(d_in, 1))
        self.weight = nnx.Param(draw)
        self.bias = nnx.Param(jnp.zeros(d_out))

    def __call__(self, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        return x @ self.weight[...] + self.bias[...]

    def apart(self, x: Float[Array, "... i"]) -> tuple[Float[Array, "... o"], Float[Array, "r o"]]:
        """Its product with the first of its inputs, offset included, and the weights that are left for the others."""
        weight = self.weight[...]
        return x @ weight[: x.shape[-1]] + self.bias[...], weight[x.shape[-1] :]


def standardised(x: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """Mean 0 and variance 1 across features (Ba et al. 2016); no weights, since the linear layer behind it has some."""
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
