"""Gradients of the loss of a batch: at once, or part by part in less memory."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from framework.data.batches.batch import Drawn

Loss = Callable[[PyTree, Drawn, Key[Array, ""]], Float[Array, ""]]  # what a batch, or a part of it, adds to the loss


@dataclass(frozen=True)
class Whole:
    """One pass over the batch."""

    def __call__(self, loss: Loss, params: PyTree, batch: Drawn, key: Key[Array, ""]) -> tuple[Array, PyTree]:
        return jax.value_and_grad(loss)(params, batch, key)


@dataclass(frozen=True)
class Accumulated:
    """One pass for each of the `parts` along the batch's leading axis; only one is in memory at a time."""

    parts: int

    def __call__(self, loss: Loss, params: PyTree, batch: Drawn, key: Key[Array, ""]) -> tuple[Array, PyTree]:
        def add(total: tuple[Array, PyTree], given: tuple[Array, Drawn]) -> tuple[tuple[Array, PyTree], None]:
            number, part = given
            found = jax.value_and_grad(loss)(params, part, jax.random.fold_in(key, number))
            return jax.tree.map(jnp.add, total, found), None

        nothing = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
        return jax.lax.scan(add, nothing, (jnp.arange(self.parts), batch))[0]
