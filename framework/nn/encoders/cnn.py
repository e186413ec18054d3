"""A small 3-D CNN that keeps where things are."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from framework.nn.conv import convolve, group_norm, space_to_depth
from framework.nn.encoders.base import Encoder
from framework.nn.layers import Dense
from framework.types import Arr


class CNN(Encoder):
    """Cubes of 2³ voxels as channels, then stride-2 convolutions down to 4³, then one dense layer.

    The last map is flattened, not averaged: a ventricle is told from a sulcus by where it lies. The first
    stage has `width` channels, each later one twice as many.
    """

    def __init__(self, width: int, out_features: int, *, grid: tuple[int, int, int, int], rngs: nnx.Rngs):
        self.out_features = out_features
        size, channels = [-(-n // 2) for n in grid[:3]], 8 * grid[3]
        stages = []
        while not stages or max(size) > 4:
            stages.append(Stage(channels, width, rngs=rngs))
            size, channels, width = [-(-n // 2) for n in size], width, 2 * width
        self.stages = nnx.List(stages)
        self.dense = Dense(channels * size[0] * size[1] * size[2], out_features, rngs=rngs)

    def __call__(self, voxels: Float[Arr, "n x y z c"]) -> Float[Array, "n d"]:
        x = space_to_depth(voxels, 2)
        for stage in self.stages:
            x = stage(x)
        return self.dense(x.reshape(x.shape[0], -1))


class Stage(nnx.Module):
    """Convolution of stride 2, group normalisation, GELU."""

    def __init__(self, c_in: int, c_out: int, *, rngs: nnx.Rngs):
        draw = jax.random.normal(rngs.params(), (3, 3, 3, c_in, c_out))
        self.weights = nnx.Param(draw * jnp.sqrt(2 / (27 * c_in)))
        self.scale = nnx.Param(jnp.ones(c_out))
        self.shift = nnx.Param(jnp.zeros(c_out))
        self.groups = max(1, c_out // 8)

    def __call__(self, x: Float[Arr, "n x y z c"]) -> Float[Array, "n u v w o"]:
        x = convolve(x, self.weights[...], stride=2)
        return jax.nn.gelu(group_norm(x, self.scale[...], self.shift[...], self.groups))
