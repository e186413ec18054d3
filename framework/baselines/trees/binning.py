"""Columns cut into at most 255 bins: what trees are grown on."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from framework.baselines.native import forest as native
from framework.types import Arr

MISSING = 255  # the code of what was not observed


@partial(jax.jit, static_argnames="bins")
def edges(
    x: Float[Arr, "n f"], observed: Bool[Arr, "n f"], weight: Float[Arr, " n"], bins: int = 255
) -> Float[Array, "f e"]:
    """Where each column is cut: between any two values where bins suffice, else into bins of about as many rows.

    Seen are rows of positive weight, whatever it is. There are e = bins - 1 edges, those not needed +inf at the end.
    """
    kept = observed & (weight > 0)[:, None]
    seen = jnp.asarray(x, jnp.float32), kept
    cpu = native.edges if native.available() else _edges
    return jax.lax.platform_dependent(*seen, cpu=partial(cpu, bins=bins), default=partial(_edges, bins=bins))


@partial(jax.jit, static_argnames="categories")
def codes(
    x: Float[Arr, "n f"], observed: Bool[Arr, "n f"], cuts: Float[Arr, "f e"], categories: tuple[int, ...] = ()
) -> UInt8[Array, "n f"]:
    """The bin of each entry, the number of edges below it: `code <= b` wherever `x <= cuts[b]`; 255 is missing.

    `categories` is the number of categories of each column, 0 for a number. A category's code is itself; one
    out of its range, or beyond 254, counts as missing.
    """
    known = within(x, observed, categories)
    seen = jnp.asarray(x, jnp.float32), known, cuts
    cpu = native.codes if native.available() else _codes
    found = jax.lax.platform_dependent(*seen, cpu=cpu, default=_codes)
    if not any(categories):
        return found
    own = jnp.where(known, x, MISSING).astype(jnp.uint8)
    return jnp.where(np.array(categories) > 0, own, found)


@partial(jax.jit, static_argnames="bins")
def spans(
    x: Float[Arr, "n f"], observed: Bool[Arr, "n f"], weight: Float[Arr, " n"], codes: UInt8[Arr, "n f"], bins: int
) -> Float[Array, "f 2 d"]:
    """The least and the greatest value of each of the first d = bins bins in rows of positive weight; inf, -inf where
    there is none.
    """
    kept = observed & (weight > 0)[:, None]
    seen = jnp.asarray(x, jnp.float32)
    place = jnp.arange(x.shape[1]), jnp.asarray(codes)
    empty = jnp.full((x.shape[1], bins), jnp.inf, jnp.float32)
    least = empty.at[place].min(jnp.where(kept, seen, jnp.inf), mode="drop")
    return jnp.stack([least, (-empty).at[place].max(jnp.where(kept, seen, -jnp.inf), mode="drop")], 1)


def within(x: Float[Arr, "n f"], observed: Bool[Arr, "n f"], categories: tuple[int, ...]) -> Bool[Array, "n f"]:
    """Which entries were observed and, where they are categories, are known ones."""
    if not any(categories):
        return jnp.asarray(observed)
    count = np.array(categories)
    return jnp.asarray(observed) & ((count == 0) | ((x >= 0) & (jnp.asarray(x) < np.minimum(count, MISSING))))


@jax.custom_batching.sequential_vmap
def _codes(x, observed, cuts):
    found = jax.vmap(jnp.searchsorted, in_axes=(0, 1), out_axes=1)(cuts, jnp.where(observed, x, 0))
    return jnp.where(observed, found, MISSING).astype(jnp.uint8)


def _edges(x, kept, bins: int):
    return jax.lax.map(lambda column: _cut(column[0], column[1], bins), (x.T, kept.T))


def _cut(values: Array, kept: Array, bins: int) -> Array:
    """Greedy: each bin takes its even share of the rows left, whole values only; once no more values than bins are
    left, each value has its own.
    """
    sort = jnp.sort(jnp.where(kept, values + 0.0, jnp.inf))
    n = kept.sum()
    new = jnp.append(True, sort[1:] != sort[:-1]) & (jnp.arange(len(sort)) < n)
    before = jnp.append(0, jnp.cumsum(new))  # how many distinct values lie in the first rows
    last = len(sort) - 1

    def one(at, left_bins):
        here = jnp.minimum(at, last)
        own = jnp.minimum(jnp.searchsorted(sort, sort[here], side="right"), n)
        share = at + jnp.maximum(1, (n - at + left_bins // 2) // left_bins)
        whole = jnp.where(share < n, jnp.searchsorted(sort, sort[jnp.minimum(share, last)]), n)
        few = before[n] - before[at] <= left_bins
        end = jnp.where(few, own, jnp.maximum(whole, own)).astype(at.dtype)
        low, high = sort[jnp.maximum(end - 1, 0)], sort[jnp.minimum(end, last)]
        middle = 0.5 * low + 0.5 * high
        cut = jnp.where(middle < high, middle, low)
        return jnp.minimum(end, n), jnp.where((at < n) & (end < n), cut, jnp.inf)

    return jax.lax.scan(one, jnp.zeros((), n.dtype), jnp.arange(bins, 1, -1))[1]
