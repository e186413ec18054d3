"""Residual networks with identity mappings: normalisation and activation come before each convolution."""

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


class ResNet(Encoder):
    """Pre-activation residual network (He et al. 2016b): `blocks` of two convolutions in each of its stages.

    [1, 1, 1, 1] is ResNet-10, [2, 2, 2, 2] ResNet-18. The stem is a convolution of `stem` voxels a side and stride
    `stride`, then max-pooling of `pool`; stages have `width` channels, doubling where each later one halves the map.
    GroupNorm takes the place of BatchNorm: batches of volumes are small. The last map is averaged.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        width: int,
        groups: int,
        stem: int,
        stride: int,
        pool: int,
        out_features: int,
        *,
        grid: tuple[int, ...],
        rngs: nnx.Rngs,
    ):
        needs(grid, stride * pool * 2 ** (len(blocks) - 1))
        divides(groups, width)
        space = len(grid) - 1
        self.out_features, self.pool = out_features, pool
        self.stem = Convolution(grid[-1], width, space, stem, stride, rngs=rngs)
        self.norm = Norm(width, groups)
        made, channels = [], width
        for stage, count in enumerate(blocks):
            for place in range(count):
                halves, wide = stage > 0 and place == 0, width * 2**stage
                made.append(Block(channels, wide, groups, space, 1 + halves, first=not made, rngs=rngs))
                channels = wide
        self.blocks = nnx.List(made)
        self.last = Norm(channels, groups)
        self.dense = Dense(channels, out_features, rngs=rngs)

    def __call__(self, voxels: Float[Arr, "n *space c"]) -> Float[Array, "n d"]:
        x = self.norm(self.stem(jnp.asarray(voxels)), self.pool)
        for block in self.blocks:
            x = block(x)
        return self.dense(self.last(x).mean(tuple(range(1, x.ndim - 1))))


class Block(nnx.Module):
    """The residual unit of Fig. 4(e), He et al. 2016b; where it changes the shape, its shortcut is projected.

    The `first` one is given what the stem has activated already (their appendix).
    """

    def __init__(self, c_in: int, c_out: int, groups: int, space: int, stride: int, *, first: bool, rngs: nnx.Rngs):
        self.before = None if first else Norm(c_in, groups)
        self.one = Convolution(c_in, c_out, space, 3, stride, rngs=rngs)
        self.between = Norm(c_out, groups)
        self.two = Convolution(c_out, c_out, space, 3, 1, rngs=rngs)
        reshapes = stride > 1 or c_in != c_out
        self.shortcut = Convolution(c_in, c_out, space, 1, stride, rngs=rngs) if reshapes else None

    def __call__(self, x: Float[Array, "n *space c"]) -> Float[Array, "n *out o"]:
        active = x if self.before is None else self.before(x)
        kept = x if self.shortcut is None else self.shortcut(active)
        return kept + self.two(self.between(self.one(active)))


class Convolution(nnx.Module):
    """Weights of `size` voxels a side in two or three dimensions (`space`), drawn as in He et al. 2015."""

    def __init__(self, c_in: int, c_out: int, space: int, size: int, stride: int, *, rngs: nnx.Rngs):
        draw = jax.random.normal(rngs.params(), (*(size,) * space, c_in, c_out))
        self.weights = nnx.Param(draw * jnp.sqrt(2 / (size**space * c_in)))
        self.stride = stride

    def __call__(self, x: Float[Array, "n *space c"]) -> Float[Array, "n *out o"]:
        return convolve(x, self.weights[...], self.stride)


class Norm(nnx.Module):
    """Group normalisation, ReLU, max-pooling."""

    def __init__(self, channels: int, groups: int):
        self.scale, self.bias = nnx.Param(jnp.ones(channels)), nnx.Param(jnp.zeros(channels))
        self.groups = groups

    def __call__(self, x: Float[Array, "n *space c"], pool: int = 1) -> Float[Array, "n *out c"]:
        return group_norm(x, self.scale[...], self.bias[...], self.groups, relu=True, pool=pool)
