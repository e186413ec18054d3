"""Convolution by platform: XLA's own on accelerators, sums of matrix products on a CPU.

On a CPU XLA's strided convolution runs its backward pass twenty times slower than the forward one, and a
batch of weights (several models trained at once) becomes a grouped convolution, slower still. As products of
shifted slices with the weights both are plain, batched matrix products.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from framework.types import Arr


def convolve(
    x: Float[Arr, "n x y z c"], weights: Float[Arr, "k k k c o"], stride: int = 1
) -> Float[Array, "n u v w o"]:
    """Convolution of odd kernel size k, zero-padded by k // 2: output sizes are ceil(size / stride)."""
    return lax.platform_dependent(
        x, weights, cpu=lambda x, w: _as_products(x, w, stride), default=lambda x, w: _native(x, w, stride)
    )


def _native(x: Arr, weights: Arr, stride: int) -> Array:
    pad = weights.shape[0] // 2
    layout = ("NXYZC", "XYZIO", "NXYZC")
    return lax.conv_general_dilated(
        jnp.asarray(x), jnp.asarray(weights), (stride,) * 3, ((pad, pad),) * 3, dimension_numbers=layout
    )


def _as_products(x: Arr, weights: Arr, stride: int) -> Array:
    """One product per (i, j) of the kernel, the k taps along z side by side: few, and long enough to be fast."""
    k = weights.shape[0]
    size = [-(-n // stride) for n in x.shape[1:4]]
    pad = k // 2
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (pad, pad), (0, 0)))

    def shifted(*offset: int) -> Array:
        stop = [o + (n - 1) * stride + 1 for o, n in zip(offset, size, strict=True)]
        return lax.slice(padded, (0, *offset, 0), (x.shape[0], *stop, x.shape[4]), (1, stride, stride, stride, 1))

    def row(i: int, j: int) -> Array:
        taps = jnp.concatenate([shifted(i, j, m) for m in range(k)], axis=-1)
        return taps @ weights[i, j].reshape(-1, weights.shape[-1])

    return sum((row(i, j) for i in range(k) for j in range(k)), start=jnp.zeros((), x.dtype))


def space_to_depth(x: Float[Arr, "n x y z c"], factor: int) -> Float[Array, "n u v w d"]:
    """Fold each cube of factor³ voxels into channels; odd sizes are zero-padded at the far end."""
    pads = [(0, -size % factor) for size in x.shape[1:4]]
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    n, a, b, c, ch = x.shape
    x = x.reshape(n, a // factor, factor, b // factor, factor, c // factor, factor, ch)
    return x.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(n, a // factor, b // factor, c // factor, factor**3 * ch)
