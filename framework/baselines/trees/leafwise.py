"""A tree of gradient boosting, grown best leaf first on histograms of gradients: XLA's form.

Gradients are integers, so that every sum is exact and `native/boosting.cc` grows the same tree, bit for bit.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32, UInt8

from framework.types import Arr

WIDE = 16  # columns side by side in memory
SLIGHT = np.float32(1e-6)  # a gain below this share of the node's own score is rounding


def blocks(codes: UInt8[Arr, "n f"], bins: int) -> UInt8[Array, "k n w"]:
    """Columns in groups of 16, missing values in the slot after the last bin."""
    n, f = codes.shape
    padded = jnp.pad(jnp.minimum(codes, bins), ((0, 0), (0, -f % WIDE)))
    return padded.reshape(n, -1, WIDE).transpose(1, 0, 2)


class _Split(NamedTuple):
    """The best split of a node: `goes` tells of each code whether it goes left."""

    gain: Array
    feature: Array
    bin: Array
    missing_left: Array
    goes: Array
    left: Array  # the sums of what goes left


class _State(NamedTuple):
    used: Array
    leaf: Array  # of each row its node
    split: _Split  # of each node, done or not
    done: Array
    child: Array
    depth: Array
    rows: Array  # how many count for something
    sums: Array
    histograms: Array
    own: Array  # of each node which histogram is its own


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
    """Return for each node: feature (-1 a leaf), last bin to the left, missing_left, left child, set of categories,
    sums of g and of h; and each row's leaf. `rules` are l2 and the least sum of h, in units of h, and how many rows of
    the node's average h a side needs.
    """
    codes, tried, rules = jnp.asarray(codes), jnp.asarray(tried), jnp.asarray(rules)
    pair = jnp.stack([g, h], -1)
    search = partial(_search, tried=tried, rules=rules, categories=categories)
    first = _histogram(codes, pair, jnp.arange(len(g)), bins)
    whole, rows = pair.sum(0, dtype=jnp.int32), (pair != 0).any(-1).sum(dtype=jnp.int32)
    root = search(first, whole, rows)
    empty = jax.tree.map(lambda part: jnp.zeros((nodes, *part.shape), part.dtype).at[0].set(part), root)
    rest = jnp.zeros(nodes, jnp.int32)
    start = _State(
        used=jnp.int32(1),
        leaf=jnp.zeros(len(g), jnp.int32),
        split=empty._replace(gain=empty.gain * (depth > 0)),
        done=jnp.zeros(nodes, bool),
        child=rest,
        depth=rest,
        rows=rest.at[0].set(rows),
        sums=jnp.zeros((nodes, 2), jnp.int32).at[0].set(whole),
        histograms=jnp.zeros((nodes // 2 + 1, *first.shape), jnp.int32).at[0].set(first),
        own=rest,
    )

    def goes_on(state: _State) -> Array:
        return (state.used + 1 < nodes) & (state.split.gain.max() > 0)

    step = partial(_step, codes=codes, pair=pair, bins=bins, depth=depth, search=search)
    end = jax.lax.while_loop(goes_on, step, start)
    return _answer(end, categories)


def _step(state: _State, codes: Array, pair: Array, bins: int, depth: int, search) -> _State:
    """The best leaf split in two."""
    at = state.split.gain.argmax()
    best = jax.tree.map(lambda part: part[at], state.split)
    left, right = state.used, state.used + 1
    code = codes[best.feature // WIDE, :, best.feature % WIDE]
    here, to_left = state.leaf == at, best.goes[code]
    counts = here & (pair != 0).any(-1)
    lefts = (counts & to_left).sum(dtype=jnp.int32)
    rows = jnp.stack([lefts, state.rows[at] - lefts])
    fewer = rows[0] <= rows[1]
    small = _chosen(codes, pair, counts & (to_left == fewer), bins)
    large = state.histograms[state.own[at]] - small
    place = jnp.stack([left, right])
    sums = jnp.stack([best.left, state.sums[at] - best.left])
    found = jnp.where(fewer, jnp.stack([small, large]), jnp.stack([large, small]))
    fresh = jax.vmap(search)(found, sums, rows)
    fresh = fresh._replace(gain=fresh.gain * (state.depth[at] + 1 < depth))
    split = jax.tree.map(lambda whole, part: whole.at[place].set(part), state.split, fresh)
    owns = jnp.stack([state.own[at], state.used // 2 + 1])
    return _State(
        used=state.used + 2,
        leaf=jnp.where(here, jnp.where(to_left, left, right), state.leaf),
        split=split._replace(gain=split.gain.at[at].set(0)),
        done=state.done.at[at].set(True),
        child=state.child.at[at].set(left),
        depth=state.depth.at[place].set(state.depth[at] + 1),
        rows=state.rows.at[place].set(rows),
        sums=state.sums.at[place].set(sums),
        histograms=state.histograms.at[owns[0]].set(found[0]).at[owns[1]].set(found[1]),
        own=state.own.at[place].set(owns),
    )


def _chosen(codes: Array, pair: Array, rows: Array, bins: int) -> Array:
    """The histogram of some rows, at most half of all; work is within twice their number, not that of all."""
    n = len(rows)
    sizes = [max(1, n // 2 >> i) for i in range(0, max(n // 64, 1).bit_length())]

    def of(size: int) -> Array:
        return _histogram(codes, pair, jnp.nonzero(rows, size=size, fill_value=n)[0], bins)

    enough = (jnp.array(sizes) >= rows.sum()).sum() - 1
    return jax.lax.switch(enough, [partial(of, size) for size in sizes])


def _histogram(codes: Array, pair: Array, rows: Array, bins: int) -> Array:
    """Sums of both derivatives by column and code; rows out of range add nothing."""
    k, slots = codes.shape[0], bins + 1
    column = np.arange(k * WIDE, dtype=np.int32).reshape(k, 1, WIDE)
    cell = column * slots + codes.at[:, rows].get(mode="clip").astype(jnp.int32)
    own = pair.at[rows].get(mode="fill", fill_value=0)
    each = jnp.broadcast_to(own[None, :, None], (*cell.shape, 2)).reshape(-1, 2)
    sums = [jnp.zeros(k * WIDE * slots, jnp.int32).at[cell.ravel()].add(each[:, i]) for i in (0, 1)]
    return jnp.stack(sums, -1).reshape(k * WIDE, slots, 2)


def _search(histogram: Array, whole: Array, rows: Array, tried: Array, rules: Array, categories) -> _Split:
    """The best split of a node, the first of several; a gain of 0 where there is none."""
    histogram = histogram[: len(tried)]
    inner, absent = histogram[:, :-1], histogram[:, -1]
    least = jnp.maximum(rules[1], rules[2] * (whole[1].astype(jnp.float32) / rows.astype(jnp.float32)))
    f, bins, _ = inner.shape
    order = jnp.broadcast_to(jnp.arange(bins), (f, bins))
    if any(categories):
        order = jnp.where(np.array(categories)[:, None] > 0, _order(inner, rules[0]), order)
        inner = jnp.take_along_axis(inner, order[..., None], 1)
    before = jnp.cumsum(inner, 1, dtype=jnp.int32)
    left = jnp.stack([before, before + absent[:, None]], 1)  # missing values right, or left
    score = jnp.where(tried[:, None, None], _scores(left, whole, rules[0], least), -1)
    bin = score.argmax(-1)
    own = _score(whole[0].astype(jnp.float32), whole[1].astype(jnp.float32), rules[0])
    top = score.max(-1)
    gain = jnp.where(top < 0, 0, top - own).ravel()
    best = gain.argmax()
    feature, side = best // 2, best % 2
    at = bin[feature, side]
    lefts = left[feature, side, at]
    heavier = lefts[1] >= whole[1] - lefts[1]
    missing_left = jnp.where(absent[feature, 1] > 0, side == 1, heavier)
    goes = jnp.zeros(bins + 1, bool).at[order[feature]].set(jnp.arange(bins) <= at).at[bins].set(missing_left)
    gain = jnp.where(gain[best] > own * SLIGHT, gain[best], 0)
    return _Split(gain, feature.astype(jnp.int32), at.astype(jnp.int32), missing_left, goes, lefts)


def _scores(left: Array, whole: Array, l2: Array, least: Array) -> Array:
    (gl, hl), (gr, hr) = (jnp.moveaxis(part.astype(jnp.float32), -1, 0) for part in (left, whole - left))
    valid = (hl >= least) & (hr >= least) & (hl > 0) & (hr > 0)
    return jnp.where(valid, _score(gl, hl, l2) + _score(gr, hr, l2), -1)


def _score(g: Array, h: Array, l2: Array) -> Array:
    return g * g / (h + l2)


def _order(inner: Array, l2: Array) -> Array:
    """Categories in the order of their Newton steps; those without rows last."""
    g, h = jnp.moveaxis(inner.astype(jnp.float32), -1, 0)
    return jnp.argsort(jnp.where(h > 0, g / (h + l2), 3e38), 1, stable=True)


def _answer(end: _State, categories: tuple[int, ...]) -> tuple[Array, ...]:
    split = jax.tree.map(lambda part: jnp.where(end.done.reshape(-1, *(1,) * (part.ndim - 1)), part, 0), end.split)
    sets = jnp.zeros((len(end.done), 0), jnp.uint32)
    if any(categories):
        is_set = end.done & (jnp.array(categories) > 0)[split.feature]
        bits = jnp.pad(split.goes[:, :-1], ((0, 0), (0, 257 - split.goes.shape[1]))) & is_set[:, None]
        sets = (bits.reshape(-1, 8, 32).astype(jnp.uint32) << jnp.arange(32, dtype=jnp.uint32)).sum(
            -1, dtype=jnp.uint32
        )
    feature = jnp.where(end.done, split.feature, -1)
    missing_left = split.missing_left.astype(bool)
    return feature, split.bin, missing_left, end.child, sets, end.sums[:, 0], end.sums[:, 1], end.leaf
