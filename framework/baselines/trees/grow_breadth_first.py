"""Trees grown on binned columns, breadth first: the form for every device, which the native kernel repeats."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from framework.baselines.trees.binning import MISSING
from framework.baselines.trees.splitting import Best, Found, Shape, Table, bits, search, threshold

EXACT = 22  # bits that the rows of a node sum to, beside rounding: whole numbers below 2^24 are exact
BLOCK = 256  # nodes whose histograms stand in memory at a time
NODES = ("feature", "threshold", "missing_left", "left", "value", "categories")


class _State(NamedTuple):
    nodes: dict[str, Array]
    depth: Array  # (k,)
    gain: Array  # (f,) of each feature so far
    node: Array  # (n,) where each row is, -1 where it is not drawn
    head: Array  # the first node not looked at yet
    end: Array  # the first not in use


def grow(*arrays: Array, nodes: int, levels: int, extra: bool, categories: tuple[int, ...]) -> tuple[Array, ...]:
    """Trees: feature, threshold, missing_left, left, value, categories, and what each feature gained."""
    table, shape = Table(*arrays), Shape(nodes, levels, extra, categories)
    return jax.lax.map(lambda own: _tree(table, shape, own[0], own[1]), (table.counts, table.seeds))


def _tree(table: Table, shape: Shape, count: Array, seed: Array) -> tuple[Array, ...]:
    step = partial(_step, table, shape, table.weight * count, seed)
    end = jax.lax.while_loop(lambda state: state.head < state.end, step, _start(table, shape, count))
    return (*(end.nodes[name] for name in NODES), end.gain)


def _start(table: Table, shape: Shape, count: Array) -> _State:
    k = shape.nodes
    nodes = {
        "feature": jnp.zeros(k, jnp.int32),
        "threshold": jnp.zeros(k, jnp.float32),
        "missing_left": jnp.zeros(k, bool),
        "left": jnp.zeros(k, jnp.int32),
        "value": jnp.zeros((k, max(shape.levels, 1)), jnp.float32),
        "categories": jnp.zeros((k, 8 * any(shape.categories)), jnp.uint32),
    }
    node = jnp.where(count > 0, 0, -1).astype(jnp.int32)
    gain = jnp.zeros(table.codes.shape[1], jnp.float32)
    return _State(nodes, jnp.zeros(k, jnp.int32), gain, node, jnp.int32(0), jnp.int32(1))


def _step(table: Table, shape: Shape, weight: Array, seed: Array, state: _State) -> _State:
    """The next nodes split, as many as a block holds."""
    k, block = shape.nodes, min(BLOCK, shape.nodes)
    nodes, depth, gain, node, head, end = state
    ids = head + jnp.arange(block)
    slot = jnp.where((node >= head) & (node < head + block), node - head, block)
    found = _weigh(table, shape, weight, slot, block)
    at = jnp.minimum(ids, k - 1)
    may = (ids < end) & ~found.pure & _large_enough(table, slot, block, depth[at])
    best = search(table, shape, found, slot, seed, ids, may)
    splits = best.feature >= 0
    left = jnp.where(splits, end + 2 * (jnp.cumsum(splits) - splits), 0)
    live, fresh = jnp.where(ids < end, ids, k), _written(table, shape, found, best, left)
    for side in (0, 1):
        depth = depth.at[jnp.where(splits, left + side, k)].set(depth[at] + 1, mode="drop")
    after = _State(
        {name: nodes[name].at[live].set(part.astype(nodes[name].dtype), mode="drop") for name, part in fresh.items()},
        depth,
        gain.at[jnp.where(splits, best.feature, len(gain))].add(best.score - found.own, mode="drop"),
        _moved(table, best, slot, left, node),
        jnp.minimum(head + block, end),
        end + 2 * splits.sum(),
    )
    return jax.tree.map(lambda now, then: now.astype(then.dtype), after, state)


def _large_enough(table: Table, slot: Array, block: int, depth: Array) -> Array:
    """Which nodes may be split by the rules."""
    size = _sum_by(slot, jnp.ones_like(slot), block)
    _, deepest, to_split, in_leaf = table.rules
    return (size >= to_split) & (size >= 2 * in_leaf) & (depth < deepest)


def _written(table: Table, shape: Shape, found: Found, best: Best, left: Array) -> dict[str, Array]:
    """Return the stored fields of a block's nodes."""
    splits = best.feature >= 0
    sets = jnp.where((splits & best.set)[:, None], bits(best.goes), 0)
    return {
        "feature": best.feature,
        "threshold": jnp.where(splits, threshold(table, shape, best), 0),
        "missing_left": best.missing_left & splits,
        "left": left,
        "value": found.value,
        "categories": sets[:, : 8 * any(shape.categories)],
    }


def _moved(table: Table, best: Best, slot: Array, left: Array, node: Array) -> Array:
    """Where each row is after the splits."""
    block = len(left)
    mine = jnp.minimum(slot, block - 1)
    code = table.codes[jnp.arange(len(slot)), jnp.maximum(best.feature, 0)[mine]]
    goes = jnp.where(code == MISSING, best.missing_left[mine], best.goes[mine, code])
    return jnp.where((slot < block) & (best.feature >= 0)[mine], left[mine] + ~goes, node)


def _weigh(table: Table, shape: Shape, weight: Array, slot: Array, block: int) -> Found:
    """A number is counted from its node's mean, so that sums of squares lose nothing in single precision, and in units
    of which the node's rows have 2^23 or fewer, so that sums are exact: splits that part a node's rows in the same way
    score the same, in whatever unit and order the rows come.
    """
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
    mine = jnp.minimum(slot, block - 1)
    residual = weight * (table.y - mean[mine])
    _, exponent = jnp.frexp(_sum_by(slot, jnp.abs(residual), block))
    shift = jnp.clip(EXACT - exponent, -100, 100)[mine]
    residual = jnp.ldexp(jnp.round(jnp.ldexp(residual, shift)), -shift)
    total = jnp.stack([_sum_by(slot, residual, block), whole], 1)
    value = (mean + table.centre)[:, None]
    return Found(total, value, jnp.zeros_like(whole), ~(low < high), jnp.stack([residual, weight], 1))


def _sum_by(slot: Array, values: Array, block: int) -> Array:
    return jnp.zeros((block, *values.shape[1:]), values.dtype).at[slot].add(values, mode="drop")
