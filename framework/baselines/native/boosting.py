"""The native grower of boosting as a JAX function."""

from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32, UInt8

from framework import native
from framework.types import Arr

SOURCE = Path(__file__).with_name("boosting.cc")


@cache
def available() -> bool:
    """Whether the kernel can be called; compiles and registers it at the first call."""
    return native.register(SOURCE, ("boosting_grow",))


def grow(
    codes: UInt8[Arr, "k n w"],
    g: Int32[Arr, " n"],
    h: Int32[Arr, " n"],
    tried: Bool[Arr, " f"],
    rules: Float[Arr, "3"],
    *,
    bins: int,
    nodes: int,
    depth: int,
    categories: tuple[int, ...],
) -> tuple[Array, ...]:
    """Return the result of `leafwise.grow`."""
    whole = jax.ShapeDtypeStruct((nodes,), jnp.int32)
    made = [
        whole,
        whole,
        jax.ShapeDtypeStruct((nodes,), jnp.bool_),
        whole,
        jax.ShapeDtypeStruct((nodes, 8 * any(categories)), jnp.uint32),
        whole,
        whole,
        jax.ShapeDtypeStruct(g.shape, jnp.int32),
    ]
    how = {
        "bins": np.int64(bins),
        "depth": np.int64(depth),
        "categories": np.array(categories or (0,) * len(tried), np.int64),
    }
    call = jax.ffi.ffi_call("prognax_boosting_grow", made, vmap_method="sequential")
    return tuple(call(codes, g, h, tried, rules, **how))
