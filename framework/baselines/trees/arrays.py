"""Decision trees as arrays, and the walk of rows down them."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32, UInt32

from framework.baselines.native import tree_predict as native
from framework.types import Arr, pytree


@pytree
class Trees:
    """m trees of at most k nodes, numbered breadth first from the root 0; the right child stands after the left.

    Left goes x <= threshold; of a category (threshold NaN) the codes in the set of 256 bits, whose last axis is of size
    0 where no feature is a category; of missing ones all or none. A leaf's feature is -1. Nodes not in use are zero.
    """

    feature: Int32[Arr, "*m k"]
    threshold: Float[Arr, "*m k"]
    missing_left: Bool[Arr, "*m k"]
    left: Int32[Arr, "*m k"]
    value: Float[Arr, "*m k p"]
    categories: UInt32[Arr, "*m k s"]


@jax.jit
def predict_sum(
    trees: Trees,
    x: Float[Arr, "n f"],
    observed: Bool[Arr, "n f"],
    counts: Bool[Arr, "m n"] | None = None,
) -> Float[Array, "n p"]:
    """The sum over the trees of the value at each row's leaf; of those trees alone that `counts` names."""
    m = trees.feature.shape[0]
    counts = jnp.zeros((m, 0), bool) if counts is None else counts
    parts = jax.tree.map(jnp.asarray, (trees.feature, trees.threshold, trees.missing_left, trees.left))
    last = (trees.value, trees.categories, jnp.asarray(x, jnp.float32), observed, counts)
    cpu = native.walk if native.available() else _walk
    return jax.lax.platform_dependent(*parts, *last, cpu=cpu, default=_walk)


def predict_mean(trees: Trees, x: Float[Arr, "n f"], observed: Bool[Arr, "n f"]) -> Float[Array, "n p"]:
    """The mean over the trees of the value at each row's leaf."""
    return predict_sum(trees, x, observed) / trees.feature.shape[0]


def compact(trees: Trees) -> Trees:
    """The same trees in arrays no longer than the largest needs; on the host, since shapes depend on it."""
    feature, left = np.asarray(trees.feature), np.asarray(trees.left)
    used = max(int(np.where(own >= 0, to + 2, 1).max()) for own, to in zip(_flat(feature), _flat(left), strict=True))
    axis = feature.ndim - 1
    return jax.tree.map(lambda part: jnp.asarray(np.asarray(part)[(slice(None),) * axis + (slice(used),)]), trees)


def _flat(part: np.ndarray) -> np.ndarray:
    return part.reshape(-1, part.shape[-1])


@jax.custom_batching.sequential_vmap
def _walk(feature, threshold, missing_left, left, value, categories, x, observed, counts):
    def step(node, own, cut, to_left, child, sets):
        at = jnp.maximum(own[node], 0)
        entry = x[jnp.arange(len(x)), at]
        goes = entry <= cut[node]
        if sets.shape[-1]:
            code = jnp.where(observed[jnp.arange(len(x)), at], entry, 0).astype(jnp.uint32) & 255
            goes = jnp.where(jnp.isnan(cut[node]), (sets[node, code // 32] >> (code % 32)) & 1 == 1, goes)
        goes = jnp.where(observed[jnp.arange(len(x)), at], goes, to_left[node])
        return jnp.where(own[node] >= 0, child[node] + ~goes, node)

    def one(total, tree):
        *parts, leaf_value, count = tree
        start = jnp.zeros(len(x), jnp.int32)
        node = jax.lax.while_loop(lambda at: jnp.any(parts[0][at] >= 0), lambda at: step(at, *parts), start)
        return total + jnp.where(count[:, None], leaf_value[node], 0), None

    counts = counts if counts.shape[-1] else jnp.ones((len(feature), len(x)), bool)
    start = jnp.zeros((len(x), value.shape[-1]), value.dtype)
    return jax.lax.scan(one, start, (feature, threshold, missing_left, left, categories, value, counts))[0]
