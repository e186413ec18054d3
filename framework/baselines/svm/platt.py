"""Platt scaling: probabilities from decisions, by a sigmoid for each pair of classes, and the pairs coupled."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from framework.types import Arr

TINY = 1e-7


def folds(key: Key[Array, ""], group: Int[Arr, " n"], weight: Float[Arr, " n"], number: int) -> list[Bool[Array, " n"]]:
    """Return the rows of each fold: weighted ones, drawn so that every group is spread evenly."""
    used = jnp.asarray(weight) > 0
    draw = jax.random.uniform(key, used.shape, jnp.float32)[
        jnp.maximum(jnp.cumsum(used) - 1, 0)
    ]  # rows without weight draw nothing
    order = jnp.lexsort((draw, group, ~used))
    rank = jnp.zeros(used.shape, jnp.int32).at[order].set(jnp.arange(used.size, dtype=jnp.int32))
    return [used & (rank % number == fold) for fold in range(number)]


def calibrate(decision: Float[Arr, " n"], positive: Bool[Arr, " n"], weight: Float[Arr, " n"]) -> Float[Array, " 2"]:
    """a and b of 1 / (1 + exp(a d + b)), by Newton with backtracking (Lin, Lin & Weng 2007).

    Targets are Platt's, short of 0 and 1 by as much as few rows warrant. The slope a is held at 0 or below, so that a
    probability never falls as its decision rises: decisions of a weak machine on rows left out can run against their
    labels, since each fold's offset leans towards the class with a row more. Where a would be positive, or rows of one
    side are missing, a is 0 and b the log-odds of the base rate.
    """
    decision = jnp.where(weight > 0, decision, 0.0)
    high, low = (weight * positive).sum(), (weight * ~positive).sum()
    target = jnp.where(positive, (high + 1) / (high + 2), 1 / (low + 2))
    sizes = 0.5 ** jnp.arange(12, dtype=jnp.float32)

    def loss(line):
        z = line[0] * decision + line[1]
        return (weight * (target * z + jax.nn.softplus(-z))).sum()

    def unsolved(state):
        _, step, moved = state
        return moved & (step < 100)

    def newton(state):
        line, step, _ = state
        p = jax.nn.sigmoid(-(line[0] * decision + line[1]))
        slope, bend = weight * (target - p), weight * p * (1 - p)
        g = jnp.stack([slope @ decision, slope.sum()])
        aa, ab, bb = bend @ decision**2 + 1e-6, bend @ decision, bend.sum() + 1e-6
        way = -jnp.stack([bb * g[0] - ab * g[1], aa * g[1] - ab * g[0]]) / (aa * bb - ab**2)
        losses = jax.vmap(lambda size: loss(line + size * way))(sizes)
        helps = losses < loss(line) + 1e-4 * sizes * (g @ way)
        best = line + sizes[jnp.argmax(helps)] * way
        return jnp.where(helps.any(), best, line), step + 1, helps.any() & (jnp.abs(g).max() > 1e-5)

    start = jnp.stack([jnp.zeros(()), jnp.log((low + 1) / (high + 1))]).astype(jnp.float32)
    found = lax.while_loop(unsolved, newton, (start, jnp.int32(0), jnp.bool_(True)))[0]
    return jnp.where((high > 0) & (low > 0) & (found[0] < 0), found, start)


def probability(platt_params: Float[Arr, "p 2"], decisions: Float[Arr, "t p"]) -> Float[Array, "t p"]:
    """The probability of the positive class of each pair."""
    return jax.nn.sigmoid(-(decisions * platt_params[:, 0] + platt_params[:, 1]))


def couple(pairs: Float[Arr, "t p"], classes: int) -> Float[Array, "t c"]:
    """One distribution over all classes from each pair's: pairs (0,1), (0,2), ..., each the later's.

    p_i is proportional to 1 / (Σ_j 1 / r_ij - (c - 2)), where r_ij is the probability of i within the pair (Price et
    al. 1995). It returns the distribution from which consistent pairs come, and never falls as an r_ij rises.
    """
    first, second = np.triu_indices(classes, 1)
    pairs = jnp.clip(pairs, TINY, 1 - TINY)
    if classes == 2:
        return jnp.concatenate([1 - pairs, pairs], 1)
    odds = jnp.zeros((pairs.shape[0], classes), pairs.dtype)  # against each class: 1 / r - 1, summed over its pairs
    odds = odds.at[:, first].add(pairs / (1 - pairs)).at[:, second].add((1 - pairs) / pairs)
    return (1 / (1 + odds)) / (1 / (1 + odds)).sum(1, keepdims=True)
