"""The native kernels of forests as JAX functions: binning and growing; float32, leading axes are those of vmap."""

from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8, UInt32

from framework import native
from framework.types import Arr

SOURCE = Path(__file__).with_name("forest.cc")
TARGETS = ("forest_edges", "forest_codes", "forest_draw", "forest_grow")


@cache
def available() -> bool:
    """Whether the kernels can be called; compiles and registers them at the first call."""
    return native.register(SOURCE, TARGETS)


def edges(x: Float[Arr, "n f"], kept: Bool[Arr, "n f"], bins: int) -> Float[Array, "f e"]:
    """Where each column is cut, from its kept values."""
    made = jax.ShapeDtypeStruct((x.shape[1], bins - 1), jnp.float32)
    return _call("edges", made, x, kept)


def codes(x: Float[Arr, "n f"], observed: Bool[Arr, "n f"], cuts: Float[Arr, "f e"]) -> UInt8[Array, "n f"]:
    """The bin of each number, 255 where it is missing."""
    return _call("codes", jax.ShapeDtypeStruct(x.shape, jnp.uint8), x, observed, cuts)


def draw(weight: Float[Arr, " n"], seeds: UInt32[Arr, " m"]) -> UInt8[Array, "m n"]:
    """How often each tree draws each row."""
    return _call("draw", jax.ShapeDtypeStruct((len(seeds), len(weight)), jnp.uint8), weight, seeds)


def grow(*arrays: Arr, nodes: int, levels: int, extra: bool, categories: tuple[int, ...]) -> tuple[Array, ...]:
    """Trees: feature, threshold, missing_left, left, value, categories, and the gain of each feature.

    See `trees.grow_breadth_first`.
    """
    columns, m = arrays[0].shape[1], arrays[6].shape[0]
    shape, sets = (m, nodes), 8 * any(categories)
    made = [
        jax.ShapeDtypeStruct(shape, jnp.int32),
        jax.ShapeDtypeStruct(shape, jnp.float32),
        jax.ShapeDtypeStruct(shape, jnp.bool_),
        jax.ShapeDtypeStruct(shape, jnp.int32),
        jax.ShapeDtypeStruct((*shape, max(levels, 1)), jnp.float32),
        jax.ShapeDtypeStruct((*shape, sets), jnp.uint32),
        jax.ShapeDtypeStruct((m, columns), jnp.float32),
    ]
    how = {"levels": np.int64(levels), "extra": extra, "categories": np.array(categories or (0,), np.int64)}
    return tuple(_call("grow", made, *arrays, **how))


def _call(name: str, made, *arrays: Arr, **attributes):
    return jax.ffi.ffi_call(f"prognax_forest_{name}", made, vmap_method="broadcast_all")(*arrays, **attributes)
