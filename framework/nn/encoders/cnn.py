"""A small CNN that keeps locations."""

from math import prod

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from framework.nn.conv import convolve, space_to_depth
from framework.nn.encoders.base import Encoder
from framework.nn.layers import Dense
from framework.types import Arr


class CNN(Encoder):
    """Cubes of 2³ voxels as channels, then stride-2 convolutions down to 4³, then one dense layer; squares in 2-D.

    The last map is flattened, not averaged: a ventricle is distinguished from a sulcus by its location. Activations
    are not normalised, because the size of a structure carries the information. The first stage has `width` channels,
    each later one twice as many. A `symmetric` encoder takes each scan and its mirror image along x (left and right)
    and averages their maps, so that both halves of the head train the same weights.
    """

    def __init__(self, width: int, out_features: int, symmetric: bool, *, grid: tuple[int, ...], rngs: nnx.Rngs):
        self.out_features, self.symmetric = out_features, symmetric
        size, channels = [-(-n // 2) for n in grid[:-1]], 2 ** (len(grid) - 1) * grid[-1]
        stages = []
        while not stages or max(size) > 4:
            stages.append(Stage(channels, width, len(size), rngs=rngs))
            size, channels, width = [-(-n // 2) for n in size], width, 2 * width
        self.stages = nnx.List(stages)
        self.dense = Dense(channels * prod(size), out_features, rngs=rngs)

    def __call__(self, voxels: Float[Arr, "n *space c"]) -> Float[Array, "n d"]:
        x = self._map(voxels)
        if self.symmetric:
            x = (x + jnp.flip(self._map(jnp.flip(voxels, 1)), 1)) / 2
        return self.dense(x.reshape(x.shape[0], -1))

    def _map(self, voxels: Float[Arr, "n *space c"]) -> Float[Array, "n *out o"]:
        x = space_to_depth(voxels, 2)
        for stage in self.stages:
            x = stage(x)
        return x


class Stage(nnx.Module):
    """Convolution of stride 2, GELU."""

    def __init__(self, c_in: int, c_out: int, space: int, *, rngs: nnx.Rngs):
        draw = jax.random.normal(rngs.params(), (*(3,) * space, c_in, c_out))
        self.weights = nnx.Param(draw * jnp.sqrt(2 / (3**space * c_in)))
        self.bias = nnx.Param(jnp.zeros(c_out))

    def __call__(self, x: Float[Array, "n *space c"]) -> Float[Array, "n *out o"]:
        return jax.nn.gelu(convolve(x, self.weights[...], stride=2) + self.bias[...])
