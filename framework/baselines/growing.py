"""Trees grown on binned columns, breadth first: the form for every device, which the native kernel repeats.

Any split maximises the sum over its sides of (sums of the targets)² / weight: Gini's criterion for levels, squared
error for a number. What is random comes from a counter-based hash of (tree, node, step), so both forms draw the same.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from framework.baselines.binning import MISSING

BLOCK = 256  # nodes whose histograms stand in memory at a time
BINS = MISSING + 1
NODES = ("feature", "threshold", "missing_left", "left", "value", "categories")


class Table(NamedTuple):
    """What all trees are grown on; `rules`: features a node tries, greatest depth, rows to split, rows in a leaf."""

    codes: Array  # (n, f)
    edges: Array  # (f, e)
    centres: Array  # (f, e + 1)
    y: Array  # (n,) a level's index, or a number less `centre`
    weight: Array  # (n,)
    counts: Array  # (m, n) how often each tree draws each row
    seeds: Array  # (m,)
    rules: Array  # (4,)
    centre: Array  # ()


class Shape(NamedTuple):
    """What shapes the program."""

    nodes: int
    levels: int
    extra: bool
    categories: tuple[int, ...]


def draw(weight: Array, seeds: Array) -> Array:
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


def grow(*arrays: Array, nodes: int, levels: int, extra: bool, categories: tuple[int, ...]) -> tuple[Array, ...]:
    """Trees: feature, threshold, missing_left, left, value, categories, and what each feature gained."""
    table, shape = Table(*arrays), Shape(nodes, levels, extra, categories)
    return jax.lax.map(lambda own: _tree(table, shape, own[0], own[1]), (table.counts, table.seeds))


def _mix(h: Array) -> Array:
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)


def _tree(table: Table, shape: Shape, count: Array, seed: Array) -> tuple[Array, ...]:
    k, f, p = shape.nodes, table.codes.shape[1], max(shape.levels, 1)
    block = min(BLOCK, k)
    weight = table.weight * count
    nodes = {
        "feature": jnp.zeros(k, jnp.int32),
        "threshold": jnp.zeros(k, jnp.float32),
        "missing_left": jnp.zeros(k, bool),
        "left": jnp.zeros(k, jnp.int32),
        "value": jnp.zeros((k, p), jnp.float32),
        "categories": jnp.zeros((k, 8 * any(shape.categories)), jnp.uint32),
    }
    depth = jnp.zeros(k, jnp.int32)
    start = (
        nodes,
        depth,
        jnp.zeros(f, jnp.float32),
        jnp.where(count > 0, 0, -1).astype(jnp.int32),
        jnp.int32(0),
        jnp.int32(1),
    )

    def body(state):
        nodes, depth, gain, node, head, end = state
        ids = head + jnp.arange(block)
        slot = jnp.where((node >= head) & (node < head + block), node - head, block)
        found = _weigh(table, shape, weight, slot, block)
        size = _sum_by(slot, jnp.ones_like(slot), block)
        at = jnp.minimum(ids, k - 1)
        _, deepest, to_split, in_leaf = table.rules
        may = (ids < end) & ~found.pure & (size >= to_split) & (size >= 2 * in_leaf) & (depth[at] < deepest)
        best = _search(table, shape, found, slot, seed, ids, may)
        splits = best.feature >= 0
        left = jnp.where(splits, end + 2 * (jnp.cumsum(splits) - splits), 0)
        new = {
            "feature": best.feature,
            "threshold": jnp.where(splits, _threshold(table, shape, best), 0),
            "missing_left": best.missing_left & splits,
            "left": left,
            "value": found.value,
            "categories": jnp.where((splits & best.set)[:, None], _bits(best.goes), 0)[:, : 8 * any(shape.categories)],
        }
        live = jnp.where(ids < end, ids, k)
        nodes = {
            name: nodes[name].at[live].set(part.astype(nodes[name].dtype), mode="drop") for name, part in new.items()
        }
        for side in (0, 1):
            depth = depth.at[jnp.where(splits, left + side, k)].set(depth[at] + 1, mode="drop")
        gain = gain.at[jnp.where(splits, best.feature, f)].add(best.score - found.own, mode="drop")
        mine = jnp.minimum(slot, block - 1)
        code = table.codes[jnp.arange(len(slot)), jnp.maximum(best.feature, 0)[mine]]
        goes = jnp.where(code == MISSING, best.missing_left[mine], best.goes[mine, code])
        node = jnp.where((slot < block) & splits[mine], left[mine] + ~goes, node)
        after = nodes, depth, gain, node, jnp.minimum(head + block, end), end + 2 * splits.sum()
        return jax.tree.map(lambda now, then: now.astype(then.dtype), after, state)

    nodes, _, gain, *_ = jax.lax.while_loop(lambda state: state[4] < state[5], body, start)
    return (*(nodes[name] for name in NODES), gain)


class Found(NamedTuple):
    """Of each node of a block its totals and value; of each row what it adds to its node's histograms."""

    total: Array  # (b, s)
    value: Array  # (b, p)
    own: Array  # (b,) what the node scores unsplit
    pure: Array  # (b,)
    stats: Array  # (n, s)


def _weigh(table: Table, shape: Shape, weight: Array, slot: Array, block: int) -> Found:
    """A number is counted from its node's mean, so that sums of squares lose nothing in single precision."""
    if shape.levels:
        stats = jax.nn.one_hot(table.y.astype(jnp.int32), shape.levels, dtype=jnp.float32) * weight[:, None]
        total = _sum_by(slot, stats, block)
        whole = total.sum(1)
        value = jnp.where(whole[:, None] > 0, total / whole[:, None], 1 / shape.levels)
        return Found(total, value, (total**2).sum(1) / whole, (total > 0).sum(1) < 2, stats)
    whole = _sum_by(slot, weight, block)
    mean = jnp.where(whole > 0, _sum_by(slot, weight * table.y, block) / whole, 0)
    low = jnp.full(block, jnp.inf, jnp.float32).at[slot].min(table.y, mode="drop")
    high = jnp.full(block, -jnp.inf, jnp.float32).at[slot].max(table.y, mode="drop")
    residual = weight * (table.y - mean[jnp.minimum(slot, block - 1)])
    total = jnp.stack([jnp.zeros_like(whole), whole], 1)
    value = (mean + table.centre)[:, None]
    return Found(total, value, jnp.zeros_like(whole), ~(low < high), jnp.stack([residual, weight], 1))


class Best(NamedTuple):
    """Of each node of a block the best split so far; its feature is -1 where none was found."""

    score: Array  # (b,)
    feature: Array
    first: Array  # the last bin that goes left
    second: Array  # the first that goes right, 0 where only missing ones do
    missing_left: Array
    set: Array
    cut: Array
    goes: Array  # (b, 256) which bins go left


def _search(table: Table, shape: Shape, found: Found, slot: Array, seed: Array, ids: Array, may: Array) -> Best:
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
        place = (random(seed, node, f + turn) >> 8).astype(jnp.float32) * 2.0**-24
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
    """A threshold drawn evenly between the outer bins, and the last place below it that is not the last of all."""
    there = count > 0
    first, last = jnp.argmax(there, 1), MISSING - 1 - jnp.argmax(there[:, ::-1], 1)
    own, lines = table.centres[feature], jnp.arange(len(feature))
    own = jnp.pad(own, ((0, 0), (0, MISSING - own.shape[1])), constant_values=jnp.inf)
    low, high = own[lines, order[lines, first]], own[lines, order[lines, last]]
    cut = low + place * (high - low)
    rank = jnp.cumsum(there, 1) - 1
    many = rank[:, -1]
    below = there & ((own <= cut[:, None]) | (rank == 0))
    by_value = jnp.minimum(jnp.max(jnp.where(below, rank, 0), 1), many - 1)
    by_rank = jnp.minimum((place * many).astype(jnp.int32), many - 1)
    chosen = jnp.where(is_set, by_rank, by_value)
    return jnp.argmax(there & (rank == chosen[:, None]), 1), cut


def _threshold(table: Table, shape: Shape, best: Best) -> Array:
    """Midway between the two bins it parts, or as drawn."""
    own, lines = table.edges[jnp.maximum(best.feature, 0)], jnp.arange(len(best.feature))
    last = own.shape[1] - 1
    low, high = own[lines, jnp.clip(best.first, 0, last)], own[lines, jnp.clip(best.second - 1, 0, last)]
    number = jnp.clip(best.cut, low, high) if shape.extra else 0.5 * low + 0.5 * high
    return jnp.where(best.set, jnp.nan, jnp.where(best.second > 0, number, jnp.inf))


def _bits(goes: Array) -> Array:
    parts = goes.at[:, MISSING].set(False).reshape(len(goes), 8, 32).astype(jnp.uint32)
    return (parts << jnp.arange(32, dtype=jnp.uint32)).sum(-1, dtype=jnp.uint32)


def _where(better: Array, new: Array, old: Array) -> Array:
    return jnp.where(better.reshape(-1, *[1] * (old.ndim - 1)), new, old).astype(old.dtype)


def _sum_by(slot: Array, values: Array, block: int) -> Array:
    return jnp.zeros((block, *values.shape[1:]), values.dtype).at[slot].add(values, mode="drop")
