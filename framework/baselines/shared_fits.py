"""Grouping of fits to the same rows, so that whatever depends on the rows alone is computed once."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Key, PyTree

from framework.types import Arr

Settings = Mapping[str, Arr]


def groups(weights: Float[Arr, "m n"]) -> list[np.ndarray] | None:
    """The places of lanes with equal weights, group by group; None inside a trace, where weights are not known."""
    if isinstance(weights, Tracer):
        return None
    _, group = np.unique(np.asarray(weights), axis=0, return_inverse=True)
    return [np.flatnonzero(group.reshape(-1) == number) for number in range(group.max(initial=-1) + 1)]


def by_group(
    some: list[np.ndarray],
    fit: Callable[[Arr, Array, Settings], PyTree],
    weights: Float[Arr, "m n"],
    keys: Key[Array, " m"],
    settings: Settings,
) -> PyTree:
    """Return `fit(weight, keys, settings)` of every group, lanes leading, in the order of the lanes."""
    parts = [
        fit(weights[at[0]], keys[at], {name: jnp.asarray(value)[at] for name, value in settings.items()}) for at in some
    ]
    place = np.argsort(np.concatenate(some))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[place], *parts)
