"""Convolution by platform: XLA's own on accelerators, oneDNN on a CPU, failing that matrix products."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from framework.nn import matmul_conv
from framework.nn.matmul_conv import Pads, Steps
from framework.nn.native import calls, library
from framework.types import Arr


def convolve(
    x: Float[Arr, "n *space c"], weights: Float[Arr, "*kernel c o"], stride: int = 1, padding: int | None = None
) -> Float[Array, "n *out o"]:
    """Convolution in two or three dimensions, zero-padded by `padding`, or by half the kernel.

    With an odd kernel and that half, output sizes are ceil(size / stride).
    """
    each = [k // 2 if padding is None else padding for k in weights.shape[:-2]]
    pads = tuple((pad, pad) for pad in each)
    if x.ndim == 4:  # one slice thick
        flat = convolve_padded(
            jnp.asarray(x)[:, None], jnp.asarray(weights)[None], (1, stride, stride), ((0, 0), *pads)
        )
        return flat[:, 0]
    return convolve_padded(x, weights, (stride, stride, stride), pads)


def convolve_padded(
    x: Float[Arr, "n x y z c"], weights: Float[Arr, "i j k c o"], stride: Steps, pads: Pads
) -> Float[Array, "n u v w o"]:
    """Convolution with its own stride and padding along each axis."""
    x, weights = jnp.asarray(x), jnp.asarray(weights)
    if library.convolves() and x.dtype == weights.dtype == jnp.float32:
        return _by_onednn(x, weights, stride, pads)
    return lax.platform_dependent(
        x,
        weights,
        cpu=partial(matmul_conv.convolve, stride=stride, pads=pads),
        default=partial(_xlas, stride=stride, pads=pads),
    )


def _onednns(x: Array, weights: Array, stride: Steps, pads: Pads) -> Array:
    return lax.platform_dependent(
        x,
        weights,
        cpu=partial(calls.convolve, stride=stride, pads=pads),
        default=partial(_xlas, stride=stride, pads=pads),
    )


def _forward(x: Array, weights: Array, stride: Steps, pads: Pads) -> tuple[Array, tuple[Array, Array]]:
    return _onednns(x, weights, stride, pads), (x, weights)


def _backward(stride: Steps, pads: Pads, kept: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    def native(x: Array, weights: Array, dy: Array) -> tuple[Array, Array]:
        dx = calls.convolve_data(dy, weights, x.shape, stride, pads)
        return dx, calls.convolve_weights(x, dy, weights.shape, stride, pads)

    def xlas(x: Array, weights: Array, dy: Array) -> tuple[Array, Array]:
        return jax.vjp(partial(_xlas, stride=stride, pads=pads), x, weights)[1](dy)

    return lax.platform_dependent(*kept, dy, cpu=native, default=xlas)


_by_onednn = jax.custom_vjp(_onednns, nondiff_argnums=(2, 3))
_by_onednn.defvjp(_forward, _backward)


def _xlas(x: Arr, weights: Arr, stride: Steps, pads: Pads) -> Array:
    layout = ("NXYZC", "XYZIO", "NXYZC")
    return lax.conv_general_dilated(jnp.asarray(x), jnp.asarray(weights), stride, pads, dimension_numbers=layout)


def space_to_depth(x: Float[Arr, "n *space c"], factor: int) -> Float[Array, "n *blocks d"]:
    """Fold each cube (or square) of `factor` voxels a side into channels; odd sizes are zero-padded at the far end."""
    x = jnp.pad(x, ((0, 0), *((0, -size % factor) for size in x.shape[1:-1]), (0, 0)))
    n, *size, c = x.shape
    space = range(len(size))
    x = x.reshape(n, *(part for length in size for part in (length // factor, factor)), c)
    x = x.transpose(0, *(1 + 2 * i for i in space), *(2 + 2 * i for i in space), x.ndim - 1)
    return x.reshape(n, *(length // factor for length in size), factor ** len(size) * c)
