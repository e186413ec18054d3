"""Trees cut back until no leaf weighs too little."""

from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from framework.baselines.trees.arrays import Trees


@jax.jit
def pruned(
    trees: Trees,
    x: Float[Array, "n f"],
    observed: Bool[Array, "n f"],
    weights: Float[Array, "m n"],
    least: Float[Array, ""],
) -> Trees:
    """A node stays a leaf where one of its sides would weigh less than `least` of the rows its tree was grown on."""

    def one(tree: tuple[Trees, Array]) -> Int[Array, " k"]:
        own, weight = tree

        def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            node, total, _ = state
            at, rows = own.feature[node], jnp.arange(len(x))
            left = jnp.where(observed[rows, at], x[rows, at] <= own.threshold[node], own.missing_left[node])
            below = own.left[node] + ~left
            inner = at >= 0
            total = total.at[jnp.where(inner, below, len(total))].add(weight, mode="drop")
            return jnp.where(inner, below, node), total, inner.any()

        start = jnp.zeros(len(x), jnp.int32), jnp.zeros(own.feature.shape, weight.dtype), jnp.bool_(True)
        total = jax.lax.while_loop(lambda state: state[2], step, start)[1]
        light = (total[own.left] < least) | (total[own.left + 1] < least)
        return jnp.where(light, -1, own.feature)

    return replace(trees, feature=jax.lax.map(one, (trees, weights)))
