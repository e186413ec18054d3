"""The native kernels of trees as JAX functions: binning, growing, walking; float32, leading axes are those of vmap."""

from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt8

from framework import native
from framework.types import Arr

SOURCE = Path(__file__).with_name("forest.cc")
TARGETS = ("forest_edges", "forest_codes", "forest_walk")


@cache
def available() -> bool:
    """Whether the kernels can be called; compiles and registers them at the first question."""
    return native.register(SOURCE, TARGETS)


def edges(x: Float[Arr, "n f"], kept: Bool[Arr, "n f"], bins: int) -> Float[Array, "f e"]:
    """Where each column is cut, from its kept values."""
    made = jax.ShapeDtypeStruct((x.shape[1], bins - 1), jnp.float32)
    return _call("edges", made, x, kept)


def codes(x: Float[Arr, "n f"], observed: Bool[Arr, "n f"], cuts: Float[Arr, "f e"]) -> UInt8[Array, "n f"]:
    """Of each number the bin, 255 where it is missing."""
    return _call("codes", jax.ShapeDtypeStruct(x.shape, jnp.uint8), x, observed, cuts)


def walk(*arrays: Arr) -> Float[Array, "n p"]:
    """The sums of the trees' values; the trees' six arrays, x, what was observed, which rows each tree counts for."""
    made = jax.ShapeDtypeStruct((arrays[6].shape[0], arrays[4].shape[-1]), jnp.float32)
    return _call("walk", made, *arrays)


def _call(name: str, made, *arrays: Arr, **attributes):
    return jax.ffi.ffi_call(f"prognax_forest_{name}", made, vmap_method="broadcast_all")(*arrays, **attributes)
