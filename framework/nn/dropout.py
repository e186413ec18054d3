"""Dropout, from random bits that cost next to nothing."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt32

from framework.types import Arr


def dropout(x: Float[Array, "*n"], rate: Float[Arr, ""] | float, key: Key[Array, ""] | None) -> Float[Array, "*n"]:
    """Drop entries at a rate that may be traced, so that it can differ between vmapped members; no key, no dropout."""
    if key is None:
        return x
    uniform = (bits(key, x.shape) >> 8).astype(jnp.float32) / (1 << 24)
    return jnp.where(uniform >= rate, x / jnp.maximum(1 - rate, 1e-6), 0)


def bits(key: Key[Array, ""], shape: tuple[int, ...]) -> UInt32[Array, "*n"]:
    """Random bits, the same for the same key: the place of each, mixed with either half of the key.

    JAX's own, which would do for a cipher, took a quarter of a training step of a small network on a CPU. A mask must
    only look random; the mixing is Mueller's integer hash with the constants of Wellons' search for the least bias.
    """
    first, second = jax.random.key_data(key)[:2]
    places = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    return _mixed(_mixed(places ^ first) + second)


def _mixed(x: UInt32[Array, "*n"]) -> UInt32[Array, "*n"]:
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
