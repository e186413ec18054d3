"""The native kernels as JAX functions, under jit, vmap and grad; float32, channels last, three dimensions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from framework.types import Arr

Attributes = dict[str, Any]


def convolve(x: Float[Arr, "n x y z c"], w: Float[Arr, "i j k c o"], stride, pads) -> Float[Array, "n u v w o"]:
    """Convolution by oneDNN."""
    kernel = w.shape[:3]
    size = [(n + sum(p) - k) // s + 1 for n, k, s, p in zip(x.shape[1:4], kernel, stride, pads, strict=True)]
    return _call("convolve", (x.shape[0], *size, w.shape[4]), x, w, **_steps(stride, pads))


def convolve_data(dy: Arr, w: Arr, shape: tuple[int, ...], stride, pads) -> Array:
    """Gradient of the convolution with respect to the input, which has the given shape."""
    return _call("convolve_data", shape, dy, w, **_steps(stride, pads))


def convolve_weights(x: Arr, dy: Arr, shape: tuple[int, ...], stride, pads) -> Array:
    """Gradient of the convolution with respect to the weights, which have the given shape."""
    return _call("convolve_weights", shape, x, dy, **_steps(stride, pads))


def norm(x: Float[Arr, "n x y z c"], scale: Float[Arr, " c"], bias: Float[Arr, " c"], how: Attributes) -> Array:
    """Group normalisation, then ReLU, then max-pooling."""
    return _call("norm", _pooled(x, how), x, scale, bias, **how)


def norm_keep(
    x: Float[Arr, "n x y z c"], scale: Float[Arr, " c"], bias: Float[Arr, " c"], how: Attributes
) -> tuple[Array, ...]:
    """As `norm`, with the values its gradient needs: moments (n, g, 2), and for each pooled window the x-hat and place
    of the largest value, in the output's shape (empty where nothing is pooled).
    """
    out = _pooled(x, how)
    kept = out if np.prod(how["pool"]) > 1 else (*out[:4], 0)
    shapes = [(out, "f4"), ((x.shape[0], how["groups"], 2), "f4"), (kept, "f4"), (kept, "i4")]
    made = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
    return tuple(jax.ffi.ffi_call("prognax_norm_keep", made, vmap_method="broadcast_all")(x, scale, bias, **how))


def norm_backward(
    x: Arr, scale: Arr, bias: Arr, found: Arr, best: Arr, where: Arr, dy: Arr, how: Attributes
) -> tuple[Array, ...]:
    """Gradients with respect to x, scale and bias."""
    made = [jax.ShapeDtypeStruct(part.shape, jnp.float32) for part in (x, scale, bias)]
    call = jax.ffi.ffi_call("prognax_norm_backward", made, vmap_method="broadcast_all")
    return tuple(call(x, scale, bias, found, best, where, dy, **how))


def _call(name: str, shape: tuple[int, ...], *arrays: Arr, **attributes) -> Array:
    made = jax.ShapeDtypeStruct(tuple(shape), jnp.float32)
    return jax.ffi.ffi_call(f"prognax_{name}", made, vmap_method="broadcast_all")(*arrays, **attributes)


def _steps(stride, pads) -> Attributes:
    return {"stride": np.array(stride, np.int64), "pads": np.array(pads, np.int64).ravel()}


def _pooled(x: Arr, how: Attributes) -> tuple[int, ...]:
    size = [int(n // p) for n, p in zip(x.shape[1:4], how["pool"], strict=True)]
    return (x.shape[0], *size, x.shape[4])
