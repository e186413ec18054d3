"""Native kernel of trees as a JAX function: their tops by bit masks (QuickScorer), the rest by walking down."""

from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from framework import native
from framework.types import Arr

SOURCE = Path(__file__).with_name("tree_predict.cc")


@cache
def available() -> bool:
    """Whether the kernel can be called; compiles and registers it at the first question."""
    return native.register(SOURCE, ("walking_walk",))


def walk(*arrays: Arr) -> Float[Array, "n p"]:
    """The sums of the trees' values; the trees' six arrays, x, what was observed, which rows each tree counts for."""
    made = jax.ShapeDtypeStruct((arrays[6].shape[0], arrays[4].shape[-1]), jnp.float32)
    return jax.ffi.ffi_call("prognax_walking_walk", made, vmap_method="broadcast_all")(*arrays)
