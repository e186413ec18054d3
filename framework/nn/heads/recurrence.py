"""The one scan over time that every recurrent cell shares."""

from abc import abstractmethod
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from framework.history import at_origin
from framework.nn.heads.base import Head
from framework.types import Query, Sequence

Carry = Any  # a pytree of arrays (b, ...)


class Cell(nnx.Module):
    """One step of a recurrence over irregular visits; dt and ahead are years."""

    features: int

    @abstractmethod
    def initial(self, batch: int) -> Carry: ...

    def evolve(self, carry: Carry, dt: Float[Array, " b"]) -> Carry:
        """What happens between visits: nothing, unless the cell says otherwise."""
        return carry

    @abstractmethod
    def update(
        self, carry: Carry, x: Float[Array, "b d"], observed: Bool[Array, "b d"], dt: Float[Array, " b"]
    ) -> Carry: ...

    @abstractmethod
    def emit(self, carry: Carry, ahead: Float[Array, "b q"]) -> Float[Array, "b q h"]:
        """The state at each query, `ahead` years after its origin; the carry has axes (b, q, ...) here."""


class Recurrence(Head):
    """A cell run once over the visits; each query takes the state at its own origin."""

    def __init__(self, cell: Any, *, d_in: int, rngs: nnx.Rngs):
        self.cell = cell(d_in=d_in, rngs=rngs)
        self.out_features = self.cell.features

    def __call__(self, sequence: Sequence, query: Query) -> Float[Array, "b q h"]:
        def step(state: tuple, visit: tuple) -> tuple:
            carry, last = state
            x, observed, time, valid, first = visit
            dt = jnp.where(first | ~valid, 0, time - last)  # a padded visit must not breed NaN gradients
            moved = self.cell.update(self.cell.evolve(carry, dt), x, observed, dt)
            carry = jax.tree.map(lambda new, old: jnp.where(_like(valid, new), new, old), moved, carry)
            return (carry, jnp.where(valid, time, last)), carry

        first = jnp.cumsum(sequence.valid, axis=1) <= 1
        visits = (sequence.x, sequence.observed, sequence.times, sequence.valid, first)
        batch = sequence.x.shape[0]
        start = (self.cell.initial(batch), jnp.zeros(batch, sequence.times.dtype))
        _, carries = jax.lax.scan(step, start, jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0), visits))
        at = jax.tree.map(lambda series: at_origin(jnp.moveaxis(series, 0, 1), query.origin), carries)
        return self.cell.emit(at, query.time - at_origin(sequence.times, query.origin))


def _like(mask: Bool[Array, " b"], value: Array) -> Array:
    return mask.reshape(mask.shape + (1,) * (value.ndim - 1))
