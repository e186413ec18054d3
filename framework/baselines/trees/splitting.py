"""The best split of each of many nodes, on features drawn for it.

Any split maximises the sum over its sides of (sums of the targets)² / weight: Gini's criterion for levels, squared
error for a number.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from framework.baselines.trees.binning import MISSING
from framework.baselines.trees.counter_rng import random, share

BINS = MISSING + 1


class Table(NamedTuple):
    """Training data of all trees; `rules`: features a node tries, greatest depth, rows to split, rows in a leaf."""

    codes: Array  # (n, f)
    edges: Array  # (f, e)
    spans: Array  # (f, 2, e + 1) least and greatest value in each bin; empty where no thresholds are drawn
    y: Array  # (n,) a level's index, or a number less `centre`
    weight: Array  # (n,)
    counts: Array  # (m, n) how often each tree draws each row
    seeds: Array  # (m,)
    rules: Array  # (4,)
    centre: Array  # ()


class Shape(NamedTuple):
    """Settings that shape the program."""

    nodes: int
    levels: int
    extra: bool
    categories: tuple[int, ...]


class Found(NamedTuple):
    """Totals and value of each node of a block; the contribution of each row to its node's histograms."""

    total: Array  # (b, s)
    value: Array  # (b, p)
    own: Array  # (b,) what the node scores unsplit
    pure: Array  # (b,)
    stats: Array  # (n, s)


class Best(NamedTuple):
    """The best split so far of each node of a block; its feature is -1 where none was found."""

    score: Array  # (b,)
    feature: Array
    first: Array  # the last bin that goes left
    second: Array  # the first that goes right, 0 where only missing ones do
    missing_left: Array
    set: Array
    cut: Array
    goes: Array  # (b, 256) which bins go left


def search(table: Table, shape: Shape, found: Found, slot: Array, seed: Array, ids: Array, may: Array) -> Best:
    """The best on the first features of each node's random order; on the next ones where those cannot split at all."""
    f, b, many = table.codes.shape[1], len(ids), table.rules[0]
    node = ids.astype(jnp.uint32)
    zero, no = jnp.zeros(b, jnp.int32), jnp.zeros(b, bool)
    none = Best(
        jnp.full(b, -jnp.inf, jnp.float32),
        zero - 1,
        zero,
        zero,
        no,
        no,
        jnp.zeros(b, jnp.float32),
        jnp.zeros((b, BINS), bool),
    )
    order = jnp.broadcast_to(jnp.arange(f, dtype=jnp.int32), (b, f))

    def step(state):
        t, order, tries, best = state
        turn = t.astype(jnp.uint32)
        other = (turn + random(seed, node, turn) % (f - turn)).astype(jnp.int32)
        lines = jnp.arange(b)
        feature = order[lines, other]
        order = order.at[lines, other].set(order[:, t])
        place = share(random(seed, node, f + turn))
        new = _try(table, shape, found, slot, feature, place)
        better = tries & (new.score > best.score)
        best = jax.tree.map(partial(_where, better), new, best)
        last = (t + 1) % many == 0
        return t + 1, order, tries & ~(last & (best.feature >= 0)), best

    return jax.lax.while_loop(lambda s: (s[0] < f) & jnp.any(s[2]), step, (jnp.int32(0), order, may, none))[3]


def _try(table: Table, shape: Shape, found: Found, slot: Array, feature: Array, place: Array) -> Best:
    """The best split of each node on one feature of its own; missing ones are tried on the right and on the left."""
    b = len(feature)
    code = table.codes[jnp.arange(len(slot)), feature[jnp.minimum(slot, b - 1)]]
    bins = jnp.zeros((b, BINS, found.stats.shape[1]), jnp.float32).at[slot, code].add(found.stats, mode="drop")
    count = jnp.zeros((b, BINS), jnp.int32).at[slot, code].add(1, mode="drop")
    lost, lost_count = bins[:, MISSING], count[:, MISSING]
    bins, count = bins[:, :MISSING], count[:, :MISSING]
    is_set = jnp.asarray(np.array(shape.categories or (0,)) > 0)[feature if shape.categories else feature * 0]
    order = jnp.broadcast_to(jnp.arange(MISSING), count.shape)
    if any(shape.categories):
        order = jnp.where(is_set[:, None], _by_share(shape, found, bins, count), order)
        bins, count = jnp.take_along_axis(bins, order[..., None], 1), jnp.take_along_axis(count, order, 1)
    before, sums = jnp.cumsum(count, 1), jnp.cumsum(bins, 1)
    seen = before[:, -1:]
    inner, last = (count > 0) & (before < seen), (count > 0) & (before == seen)
    cut = jnp.zeros(b)
    if shape.extra:
        drawn, cut = _drawn(table, feature, place, count, order, is_set)
        inner, last = inner & (jnp.arange(MISSING) == drawn[:, None]), last & ~jnp.any(inner, 1, keepdims=True)
    some = (lost_count > 0)[:, None]
    places = jnp.stack([inner | (last & some), inner & some], 1)
    left = jnp.stack([sums, sums + lost[:, None]], 1)
    least = jnp.stack([before, before + lost_count[:, None]], 1)
    size = (seen + lost_count[:, None])[..., None]
    in_leaf = table.rules[3]
    score = _score(shape, left, found.total[:, None, None] - left)
    score = jnp.where(places & (least >= in_leaf) & (size - least >= in_leaf), score, -jnp.inf).reshape(b, -1)
    top = jnp.argmax(score, 1)
    at, lines = top % MISSING, jnp.arange(b)
    right = (count > 0) & (before > before[lines, at][:, None])
    weight = (lambda part: part.sum(-1)) if shape.levels else (lambda part: part[..., 1])
    heavier = weight(sums[lines, at]) >= weight(found.total) - weight(sums[lines, at])
    ranks = jnp.zeros((b, BINS), jnp.int32).at[lines[:, None], order].set(jnp.arange(MISSING, dtype=jnp.int32))
    taken = (
        jnp.zeros((b, BINS), bool).at[lines[:, None], order].set((count > 0) & (before <= before[lines, at][:, None]))
    )
    goes = jnp.where(is_set[:, None], taken, ranks <= at[:, None])
    return Best(
        score=score[lines, top],
        feature=feature,
        first=order[lines, at],
        second=jnp.where(jnp.any(right, 1), order[lines, jnp.argmax(right, 1)], 0),
        missing_left=jnp.where(some[:, 0], top >= MISSING, heavier),
        set=is_set,
        cut=cut,
        goes=goes,
    )


def _by_share(shape: Shape, found: Found, bins: Array, count: Array) -> Array:
    """Categories by the share of the node's most frequent level, or by mean; those not there at the end."""
    most = jnp.argmax(found.total, 1) if shape.levels else jnp.zeros(len(bins), jnp.int32)
    weight = bins.sum(-1) if shape.levels else bins[..., 1]
    key = jnp.take_along_axis(bins, most[:, None, None], 2)[..., 0] / weight
    return jnp.argsort(jnp.where(count > 0, key, jnp.inf), axis=1, stable=True)


def _score(shape: Shape, left: Array, right: Array) -> Array:
    """(Sums)² / weight of both sides; of what has no weight, nothing."""

    def side(part):
        if shape.levels:
            return (part**2).sum(-1), part.sum(-1)
        return part[..., 0] ** 2, part[..., 1]

    (a, u), (b, v) = side(left), side(right)
    return jnp.where((u > 0) & (v > 0), a / u + b / v, -jnp.inf)


def _drawn(table: Table, feature: Array, place: Array, count: Array, order: Array, is_set: Array):
    """A threshold drawn evenly between the outer bins' extremes, and the last place below it but the last of all.

    A bin is below where its middle is. Its extremes are those of all rows; a node's own were no better a range.
    """
    there = count > 0
    first, last = jnp.argmax(there, 1), MISSING - 1 - jnp.argmax(there[:, ::-1], 1)
    own, lines = table.spans[feature], jnp.arange(len(feature))
    own = jnp.pad(own, ((0, 0), (0, 0), (0, MISSING - own.shape[2])), constant_values=jnp.inf)
    low, high = own[lines, 0, order[lines, first]], own[lines, 1, order[lines, last]]
    cut = low + jax.lax.optimization_barrier(place * (high - low))  # rounded, lest the two forms differ
    rank = jnp.cumsum(there, 1) - 1
    many = rank[:, -1]
    below = there & ((0.5 * own[:, 0] + 0.5 * own[:, 1] <= cut[:, None]) | (rank == 0))
    by_value = jnp.minimum(jnp.max(jnp.where(below, rank, 0), 1), many - 1)
    by_rank = jnp.minimum((place * many).astype(jnp.int32), many - 1)
    chosen = jnp.where(is_set, by_rank, by_value)
    return jnp.argmax(there & (rank == chosen[:, None]), 1), cut


def threshold(table: Table, shape: Shape, best: Best) -> Array:
    """Midway between the two bins it parts; where it was drawn, as drawn, but between their values."""
    feature, lines = jnp.maximum(best.feature, 0), jnp.arange(len(best.feature))
    if shape.extra:
        low, high = table.spans[feature, 1, best.first], table.spans[feature, 0, best.second]
        number = jnp.clip(best.cut, low, jnp.nextafter(high, -jnp.inf))
    else:
        own, last = table.edges[feature], table.edges.shape[1] - 1
        low, high = own[lines, jnp.clip(best.first, 0, last)], own[lines, jnp.clip(best.second - 1, 0, last)]
        number = 0.5 * low + 0.5 * high
    return jnp.where(best.set, jnp.nan, jnp.where(best.second > 0, number, jnp.inf))


def bits(goes: Array) -> Array:
    """Which of 256 codes go left, as eight words."""
    parts = goes.at[:, MISSING].set(False).reshape(len(goes), 8, 32).astype(jnp.uint32)
    return (parts << jnp.arange(32, dtype=jnp.uint32)).sum(-1, dtype=jnp.uint32)


def _where(better: Array, new: Array, old: Array) -> Array:
    return jnp.where(better.reshape(-1, *[1] * (old.ndim - 1)), new, old).astype(old.dtype)
