"""Convolution as matrix products, for CPUs without oneDNN.

XLA's own convolution runs at a few percent of a CPU's rate with few channels, its strided backward pass twenty times
slower than the forward one, and a batch of weights (several models trained at once) becomes a grouped convolution,
slower still. As products of shifted slices with the weights all three are plain matrix products.
"""

from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax

Steps: TypeAlias = tuple[int, int, int]
Pads: TypeAlias = tuple[tuple[int, int], ...]


def convolve(x: Array, weights: Array, stride: Steps, pads: Pads) -> Array:
    """Convolution of (n, x, y, z, c) with (i, j, k, c, o), by whichever form is fastest for the shape."""
    within = all(max(pad) < k for pad, k in zip(pads, weights.shape, strict=False))
    if stride == (1, 1, 1) and within and weights.shape[:3] != (1, 1, 1):
        return _dense(x, weights, pads)
    return _strided(x, weights, stride, pads)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _dense(x: Array, weights: Array, pads: Pads) -> Array:
    return _sum_of_slices(x, weights, pads)


def _sum_of_slices(x: Array, weights: Array, pads: Pads) -> Array:
    if x.shape[-1] == 1:
        return _of_one_channel(x, weights, pads)
    rows, patch = _patches(x, weights.shape, pads)
    out = lax.map(lambda at: patch(at) @ weights.reshape(-1, weights.shape[-1]), jnp.arange(rows))
    return out.reshape(*_size(x, weights.shape, pads), weights.shape[-1])


def _forward(x: Array, weights: Array, pads: Pads) -> tuple[Array, tuple[Array, Array]]:
    return _sum_of_slices(x, weights, pads), (x, weights)


def _backward(pads: Pads, kept: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, weights = kept
    turned = tuple((k - 1 - a, k - 1 - b) for k, (a, b) in zip(weights.shape, pads, strict=False))
    dx = _sum_of_slices(dy, jnp.flip(weights, (0, 1, 2)).swapaxes(3, 4), turned)
    rows, patch = _patches(x, weights.shape, pads)
    slices = dy.reshape(rows, -1, dy.shape[-1])

    def add(sum: Array, at: Array) -> tuple[Array, None]:
        return sum + patch(at).T @ slices[at], None

    start = jnp.zeros((weights[..., 0].size, weights.shape[-1]), weights.dtype)
    return dx, lax.scan(add, start, jnp.arange(rows))[0].reshape(weights.shape)


_dense.defvjp(_forward, _backward)


def _patches(x: Array, kernel: tuple[int, ...], pads: Pads):
    """How many slices there are in all scans, and a function that gives one of them as rows of patches: small enough
    to stay in the processor's cache until they are multiplied.
    """
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    n, u, v, w = _size(x, kernel, pads)
    wide = jnp.concatenate([padded[:, :, :, k : k + w] for k in range(kernel[2])], -1)

    def patch(at: Array) -> Array:
        corner = (at // u, at % u, 0, 0, 0)
        part = lax.dynamic_slice(wide, corner, (1, kernel[0], *wide.shape[2:]))[0]
        taps = [part[i, j : j + v] for i in range(kernel[0]) for j in range(kernel[1])]
        return jnp.concatenate(taps, -1).reshape(v * w, -1)

    return n * u, patch


def _size(x: Array, kernel: tuple[int, ...], pads: Pads) -> tuple[int, ...]:
    return (len(x), *(n + sum(p) - k + 1 for n, p, k in zip(x.shape[1:4], pads, kernel, strict=False)))


def _of_one_channel(x: Array, weights: Array, pads: Pads) -> Array:
    """A sum of shifted images, which XLA fuses into one pass."""
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    _, u, v, w = _size(x, weights.shape, pads)
    taps = [
        (i, j, k) for i in range(weights.shape[0]) for j in range(weights.shape[1]) for k in range(weights.shape[2])
    ]
    return sum(
        (padded[:, i : i + u, j : j + v, k : k + w] * weights[i, j, k, 0] for i, j, k in taps),
        start=jnp.zeros((), x.dtype),
    )


def _strided(x: Array, weights: Array, stride: Steps, pads: Pads) -> Array:
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
