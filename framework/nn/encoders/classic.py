"""The classic small CNN: convolutions without padding, ReLU, max-pooling between them, one dense layer."""

from collections.abc import Sequence
from math import prod

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from framework.nn.conv import convolve
from framework.nn.encoders.base import Encoder, needs
from framework.nn.layers import Dense
from framework.nn.norm import max_pool
from framework.types import Arr


class Classic(Encoder):
    """A convolution of width 3 and ReLU for each of `channels`, max-pooling of 2 between them, one dense layer of
    `out_features` with ReLU. Nothing is normalised. `padding` is 0, or 1 to keep the size.
    """

    def __init__(
        self, channels: Sequence[int], padding: int, out_features: int, *, grid: tuple[int, ...], rngs: nnx.Rngs
    ):
        lost = 2 * (1 - padding)  # voxels a side that a convolution takes
        least, size = 1 + lost, [n - lost for n in grid[:-1]]
        for _ in channels[1:]:
            least, size = 2 * least + lost, [n // 2 - lost for n in size]
        needs(grid, least)
        self.padding, self.out_features = padding, out_features
        ins, space = (grid[-1], *channels[:-1]), len(grid) - 1
        self.layers = nnx.List([Layer(i, o, space, rngs=rngs) for i, o in zip(ins, channels, strict=True)])
        self.dense = Dense(channels[-1] * prod(size), out_features, rngs=rngs)

    def __call__(self, voxels: Float[Arr, "n *space c"]) -> Float[Array, "n d"]:
        x = jnp.asarray(voxels)
        for place, layer in enumerate(self.layers):
            x = layer(max_pool(x, 2) if place else x, self.padding)
        return jax.nn.relu(self.dense(x.reshape(x.shape[0], -1)))


class Layer(nnx.Module):
    """Convolution of width 3, ReLU."""

    def __init__(self, c_in: int, c_out: int, space: int, *, rngs: nnx.Rngs):
        draw = jax.random.normal(rngs.params(), (*(3,) * space, c_in, c_out))
        self.weights = nnx.Param(draw * jnp.sqrt(2 / (3**space * c_in)))
        self.bias = nnx.Param(jnp.zeros(c_out))

    def __call__(self, x: Float[Array, "n *space c"], padding: int) -> Float[Array, "n *out o"]:
        return jax.nn.relu(convolve(x, self.weights[...], padding=padding) + self.bias[...])
