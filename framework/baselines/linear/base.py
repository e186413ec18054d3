"""Parameters of linear models, and coordinates in which float32 is enough."""

from abc import abstractmethod
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from framework.baselines.base import Estimator
from framework.baselines.prepare import moments
from framework.types import Arr, pytree

BLOCK = 1 << 14  # rows whose products are in memory at a time


@pytree
class Linear:
    """An intercept and one coefficient a feature, for each of p outputs; whether they solve their problem."""

    intercept: Float[Array, "*m p"]
    coef: Float[Array, "*m f p"]
    converged: Bool[Array, "*m"]


class Penalised(Estimator):
    """A linear model that is solved for many penalties at once; a fit is a path of one."""

    penalty: float | Float[Arr, ""]
    DYNAMIC = ("penalty",)
    UNSOLVED: ClassVar[str] = "a linear model did not converge"

    def shortfall(self, params: Linear) -> str:
        return "" if np.all(params.converged) else self.UNSOLVED

    def fit(
        self,
        x: Float[Arr, "n f"],
        observed: Bool[Arr, "n f"],
        y: Float[Arr, " n"] | Int[Arr, " n"],
        weight: Float[Arr, " n"],
        *,
        key: Key[Array, ""],
    ) -> Linear:
        penalties = jnp.asarray(self.penalty, jnp.result_type(float))[None]
        return jax.tree.map(lambda leaf: leaf[0], self.path(x, observed, y, weight, penalties))

    @abstractmethod
    def path(
        self,
        x: Float[Arr, "n f"],
        observed: Bool[Arr, "n f"],
        y: Float[Arr, " n"] | Int[Arr, " n"],
        weight: Float[Arr, " n"],
        penalties: Float[Arr, " k"],
    ) -> Linear:
        """The fits for all penalties on a leading axis."""


@pytree
class Standard:
    """A table in standard coordinates: z = (x - mean) / scale, 0 in rows that weigh nothing; shares sum to one.

    Coefficients there are `scale` times those of x, so that a penalty on the latter is divided by the scale. A total of
    all weights divides every objective: penalties of a sum become penalties of a mean.
    """

    z: Float[Array, "n f"]
    mean: Float[Array, " f"]
    scale: Float[Array, " f"]
    share: Float[Array, " n"]
    total: Float[Array, ""]

    def back(self, intercept: Float[Array, " p"], coef: Float[Array, "f p"], converged: Bool[Array, ""]) -> Linear:
        """Parameters for x from those for z."""
        coef = coef / self.scale[:, None]
        return Linear(intercept - self.mean @ coef, coef, converged)


def standard(x: Float[Arr, "n f"], observed: Bool[Arr, "n f"], weight: Float[Arr, " n"]) -> Standard:
    """The table in standard coordinates; what is missing counts as 0 in x."""
    seen = jnp.where(observed, x, 0)
    of = moments(seen, jnp.ones(seen.shape, bool), weight)
    counts = weight > 0
    weight = jnp.where(counts, weight, 0)
    total = jnp.where(counts.any(), weight.sum(), 1)
    z = jnp.where(counts[:, None], (seen - of.mean) / of.scale, 0)
    return Standard(z, of.mean, of.scale, weight / total, total)


def gram_of(z: Float[Array, "n f"], share: Float[Array, " n"]) -> Float[Array, "f f"]:
    """The sum of share z z' over the rows, a block of them at a time."""

    def of(z: Array, share: Array) -> Array:
        return (z * share[:, None]).T @ z

    def more(block: Array, total: Array) -> Array:
        return total + of(*(lax.dynamic_slice_in_dim(part, block * BLOCK, BLOCK) for part in (z, share)))

    whole = len(z) // BLOCK * BLOCK
    if not whole:
        return of(z, share)
    return lax.fori_loop(0, whole // BLOCK, more, of(z[whole:], share[whole:]))


def outputs(params: Linear, x: Float[Arr, "n f"], observed: Bool[Arr, "n f"]) -> Float[Array, "n p"]:
    """The linear predictors of some rows."""
    return jnp.matmul(jnp.where(observed, x, 0), params.coef, precision="highest") + params.intercept
