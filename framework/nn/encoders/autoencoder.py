"""Encoders taught by reconstruction: a code from which a decoder can draw the scan again."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from framework.configurable import configurable
from framework.nn.conv import convolve
from framework.nn.dropout import dropout
from framework.nn.encoders.base import Encoder, needs
from framework.nn.encoders.cnn import Stage
from framework.nn.layers import Dense
from framework.types import Arr


class Convolutional(Encoder):
    """A convolution of stride 2 for each of `channels`; the last map flattened: a code has to say where things are."""

    def __init__(self, channels: Sequence[int], out_features: int, *, grid: tuple[int, ...], rngs: nnx.Rngs):
        needs(grid, 2 ** len(channels))
        self.out_features = out_features
        ins, size = (grid[-1], *channels[:-1]), _halved(grid[:-1], len(channels))
        self.stages = nnx.List([Stage(i, o, len(size), rngs=rngs) for i, o in zip(ins, channels, strict=True)])
        self.dense = Dense(channels[-1] * prod(size), out_features, rngs=rngs)

    def __call__(self, voxels: Float[Arr, "n *space c"]) -> Float[Array, "n d"]:
        x = jnp.asarray(voxels)
        for stage in self.stages:
            x = stage(x)
        return self.dense(x.reshape(x.shape[0], -1))


class Variational(Encoder):
    """A normal distribution of codes over what `encoder` makes of a scan (Kingma & Welling 2014); its mean is the
    embedding. `beta` weighs its divergence from the standard normal against the reconstruction (Higgins et al. 2017).
    """

    def __init__(
        self,
        encoder: Callable[..., Encoder],
        out_features: int,
        beta: float,
        *,
        grid: tuple[int, ...],
        rngs: nnx.Rngs,
    ):
        self.out_features, self.beta = out_features, beta
        self.encoder = encoder(grid=grid, rngs=rngs)
        self.mean = Dense(self.encoder.out_features, out_features, rngs=rngs)
        self.log_variance = Dense(self.encoder.out_features, out_features, gain=0.0, rngs=rngs)

    def __call__(self, voxels: Float[Arr, "n *space c"]) -> Float[Array, "n d"]:
        return self.mean(jax.nn.gelu(self.encoder(voxels)))

    def code(
        self, voxels: Float[Arr, "n *space c"], key: Key[Array, ""] | None
    ) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
        """A code drawn (Sec. 2.4; without a key the mean), and the divergence (appendix B), in nats a voxel."""
        features = jax.nn.gelu(self.encoder(voxels))
        mean, log_variance = self.mean(features), self.log_variance(features)
        divergence = 0.5 * (jnp.exp(log_variance) + mean**2 - 1 - log_variance).sum(-1)
        drawn = mean if key is None else mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)
        return drawn, self.beta * divergence / prod(voxels.shape[1:])


@configurable("decoder")
class Decoder(nnx.Module):
    """A code as a scan: one dense layer to the coarsest map, then for each of `channels` a map of twice the size,
    enlarged by interpolation and convolved, because transposed convolutions leave a checkerboard (Odena et al. 2016).
    """

    def __init__(self, channels: Sequence[int], *, d_in: int, grid: tuple[int, ...], rngs: nnx.Rngs):
        needs(grid, 2 ** len(channels))
        self.sizes = tuple(_halved(grid[:-1], n) for n in range(len(channels) + 1))[::-1]  # coarse to fine
        self.dense = Dense(d_in, channels[0] * prod(self.sizes[0]), rngs=rngs)
        outs = (*channels[1:], channels[-1])
        self.stages = nnx.List([Enlarge(i, o, len(grid) - 1, rngs=rngs) for i, o in zip(channels, outs, strict=True)])
        self.last = Dense(channels[-1], grid[-1], gain=0.1, rngs=rngs)  # close to nothing at the start

    def __call__(self, code: Float[Array, "n d"]) -> Float[Array, "n *space c"]:
        x = self.dense(code).reshape(code.shape[0], *self.sizes[0], -1)
        for stage, size in zip(self.stages, self.sizes[1:], strict=True):
            x = stage(x, size)
        return self.last(x)


class Enlarge(nnx.Module):
    """GELU, linear interpolation to a given size, convolution."""

    def __init__(self, c_in: int, c_out: int, space: int, *, rngs: nnx.Rngs):
        draw = jax.random.normal(rngs.params(), (*(3,) * space, c_in, c_out))
        self.weights = nnx.Param(draw * jnp.sqrt(2 / (3**space * c_in)))
        self.bias = nnx.Param(jnp.zeros(c_out))

    def __call__(self, x: Float[Array, "n *space c"], size: tuple[int, ...]) -> Float[Array, "n *out o"]:
        fine = jax.image.resize(jax.nn.gelu(x), (x.shape[0], *size, x.shape[-1]), "linear")
        return convolve(fine, self.weights[...]) + self.bias[...]


class Autoencoder(nnx.Module):
    """Any encoder with a decoder of what it says."""

    def __init__(self, encoder: Any, decoder: Any, *, grid: tuple[int, ...], rngs: nnx.Rngs):
        self.encoder = encoder(grid=grid, rngs=rngs)
        self.decoder = decoder(d_in=self.encoder.out_features, grid=grid, rngs=rngs)

    def __call__(
        self,
        voxels: Float[Arr, "n *space c"],
        mean: Float[Arr, "*space c"],
        key: Key[Array, ""] | None = None,
        rate: float = 0.0,
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """Return the mean squared error of each scan's reconstruction, and the regularisation term of its code.

        The decoder draws how a scan differs from the `mean`. A key draws random codes and hides a share `rate` of
        their numbers.
        """
        draw, hide = (None, None) if key is None else jax.random.split(key)
        code, cost = self.encoder.code(voxels, draw)
        code = dropout(code, rate, hide)
        return jnp.square(mean + self.decoder(code) - voxels).mean(tuple(range(1, voxels.ndim))), cost


def _halved(size: Sequence[int], times: int) -> tuple[int, ...]:
    """Return the size of a map after convolutions of stride 2."""
    return tuple(-(-n // 2**times) for n in size)
