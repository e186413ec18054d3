"""The plain CNN: convolution, group normalisation, ReLU and max-pooling, stage after stage."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from framework.nn.conv import convolve
from framework.nn.encoders.base import Encoder, divides, needs
from framework.nn.layers import Dense
from framework.nn.norm import group_norm
from framework.types import Arr


class Plain(Encoder):
    """A stage for each of `channels`, each halving the grid; the last map averaged, then one dense layer."""

    def __init__(
        self, channels: Sequence[int], groups: int, out_features: int, *, grid: tuple[int, ...], rngs: nnx.Rngs
    ):
        needs(grid, 2 ** len(channels))
        self.out_features = out_features
        ins, space = (grid[-1], *channels[:-1]), len(grid) - 1
        self.stages = nnx.List([Stage(i, o, groups, space, rngs=rngs) for i, o in zip(ins, channels, strict=True)])
        self.dense = Dense(channels[-1], out_features, rngs=rngs)

    def __call__(self, voxels: Float[Arr, "n *space c"]) -> Float[Array, "n d"]:
        x = jnp.asarray(voxels)
        for stage in self.stages:
            x = stage(x)
        return self.dense(x.mean(tuple(range(1, x.ndim - 1))))


class Stage(nnx.Module):
    """Convolution of width 3, group normalisation, ReLU, max-pooling of 2."""

    def __init__(self, c_in: int, c_out: int, groups: int, space: int, *, rngs: nnx.Rngs):
        divides(groups, c_out)
        draw = jax.random.normal(rngs.params(), (*(3,) * space, c_in, c_out))
        self.weights = nnx.Param(draw * jnp.sqrt(2 / (3**space * c_in)))
        self.scale, self.bias = nnx.Param(jnp.ones(c_out)), nnx.Param(jnp.zeros(c_out))
        self.groups = groups

    def __call__(self, x: Float[Array, "n *space c"]) -> Float[Array, "n *out o"]:
        x = convolve(x, self.weights[...])
        return group_norm(x, self.scale[...], self.bias[...], self.groups, relu=True, pool=2)
