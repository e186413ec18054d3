"""Counter-based random numbers of a forest: functions of tree, node and step, the same in both implementations."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8, UInt32

from framework.types import Arr


def draw(weight: Float[Arr, " n"], seeds: UInt32[Arr, " m"]) -> UInt8[Array, "m n"]:
    """How often each tree draws each row: as many draws, with replacement, as there are rows of positive weight."""
    n = len(weight)
    positive = weight > 0
    many = jnp.maximum(positive.sum(), 1).astype(jnp.uint32)
    rows = jnp.nonzero(positive, size=n, fill_value=n)[0]
    turn = jnp.arange(n, dtype=jnp.uint32)

    def one(seed):
        drawn = jnp.where(turn < positive.sum(), rows[random(seed, jnp.uint32(0xFFFFFFFF), turn) % many], n)
        return jnp.zeros(n, jnp.uint8).at[drawn].add(1, mode="drop")

    return jax.lax.map(one, seeds)


def random(seed: Array, a: Array, b: Array) -> Array:
    """Thirty-two random bits for each (seed, a, b): MurmurHash3's finaliser, twice."""
    inner = _mix(seed + jnp.uint32(0x9E3779B9) * (a + jnp.uint32(1)))
    return _mix(inner + jnp.uint32(0x85EBCA6B) * (b + jnp.uint32(1)))


def share(bits: Array) -> Array:
    """The bits as a number from 0 to 1, 1 not among them."""
    return (bits >> 8).astype(jnp.float32) * 2.0**-24


def _mix(h: Array) -> Array:
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)
