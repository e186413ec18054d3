"""Convolution by platform: XLA's own on accelerators, sums of matrix products on a CPU.

On a CPU XLA's strided convolution runs its backward pass twenty times slower than the forward one, and a
batch of weights (several models trained at once) becomes a grouped convolution, slower still. As products of
shifted slices with the weights both are plain, batched matrix products.
"""

from typing import TypeAlias

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from framework.types import Arr

Steps: TypeAlias = tuple[int, int, int]
Pads: TypeAlias = tuple[tuple[int, int], ...]


def convolve(
    x: Float[Arr, "n *space c"], weights: Float[Arr, "*kernel c o"], stride: int = 1, padding: int | None = None
) -> Float[Array, "n *out o"]:
    """Convolution in two or three dimensions, zero-padded by `padding`, or by half the kernel.

    With an odd kernel and that half, output sizes are ceil(size / stride).
    """
    pads = tuple((k // 2 if padding is None else padding,) * 2 for k in weights.shape[:-2])
    if x.ndim == 4:  # one slice thick
        flat = convolve_padded(
            jnp.asarray(x)[:, None], jnp.asarray(weights)[None], (1, stride, stride), ((0, 0), *pads)
        )
        return flat[:, 0]
    return convolve_padded(x, weights, (stride,) * 3, pads)


def convolve_padded(
    x: Float[Arr, "n x y z c"], weights: Float[Arr, "i j k c o"], stride: Steps, pads: Pads
) -> Float[Array, "n u v w o"]:
    """Convolution with its own stride and padding along each axis."""
    return lax.platform_dependent(
        x,
        weights,
        cpu=lambda x, w: _as_products(x, w, stride, pads),
        default=lambda x, w: _native(x, w, stride, pads),
    )


def _native(x: Arr, weights: Arr, stride: Steps, pads: Pads) -> Array:
    layout = ("NXYZC", "XYZIO", "NXYZC")
    return lax.conv_general_dilated(jnp.asarray(x), jnp.asarray(weights), stride, pads, dimension_numbers=layout)


def _as_products(x: Arr, weights: Arr, stride: Steps, pads: Pads) -> Array:
    """One product per (i, j) of the kernel, the taps along z side by side: few, and long enough to be fast."""
    kernel = weights.shape[:3]
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    size = [(n - k) // s + 1 for n, k, s in zip(padded.shape[1:4], kernel, stride, strict=True)]

    def shifted(*offset: int) -> Array:
        stop = [o + (n - 1) * s + 1 for o, n, s in zip(offset, size, stride, strict=True)]
        return lax.slice(padded, (0, *offset, 0), (x.shape[0], *stop, x.shape[4]), (1, *stride, 1))

    def row(i: int, j: int) -> Array:
        taps = jnp.concatenate([shifted(i, j, m) for m in range(kernel[2])], axis=-1)
        return taps @ weights[i, j].reshape(-1, weights.shape[-1])

    return sum((row(i, j) for i in range(kernel[0]) for j in range(kernel[1])), start=jnp.zeros((), x.dtype))


def space_to_depth(x: Float[Arr, "n x y z c"], factor: int) -> Float[Array, "n u v w d"]:
    """Fold each cube of factor³ voxels into channels; odd sizes are zero-padded at the far end."""
    pads = [(0, -size % factor) for size in x.shape[1:4]]
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    n, a, b, c, ch = x.shape
    x = x.reshape(n, a // factor, factor, b // factor, factor, c // factor, factor, ch)
    return x.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(n, a // factor, b // factor, c // factor, factor**3 * ch)
