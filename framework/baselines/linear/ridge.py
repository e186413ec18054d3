"""Ridge regression: the sum of squared errors plus the penalised sum of squared coefficients, in closed form."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.linalg import cho_solve, solve_triangular
from jaxtyping import Array, Bool, Float, Int, Key

from framework.baselines.base import Estimator
from framework.baselines.linear.base import Linear, Standard, gram_of, outputs, standard
from framework.baselines.linear.newton import vanishes
from framework.baselines.shared_fits import by_group, groups
from framework.types import Arr

REFINEMENTS = 8  # each multiplies what float32 left of the error by the error of its factorisation


@dataclass(frozen=True)
class Ridge(Estimator):
    """Minimises sum of w (y - a - x b)² + penalty |b|²; the intercept a is free. What is missing counts as 0.

    The normal equations are solved in standard coordinates and refined with residuals taken from the table itself,
    which gives back the digits that forming them in float32 costs.
    """

    penalty: float | Float[Arr, ""] = 1.0
    classes: int = 0
    UNSOLVED = "ridge regression did not converge: features tell of each other; give a larger penalty"
    DYNAMIC = ("penalty",)

    def fit(
        self,
        x: Float[Arr, "n f"],
        observed: Bool[Arr, "n f"],
        y: Float[Arr, " n"] | Int[Arr, " n"],
        weight: Float[Arr, " n"],
        *,
        key: Key[Array, ""],
    ) -> Linear:
        with jax.default_matmul_precision("highest"):
            table, target, middle = _table(x, observed, y, weight)
            ridge = jnp.asarray(self.penalty, target.dtype) / table.total / table.scale**2
            factor = _factor(table, ridge)
            coef, solved = _refined(table, target, ridge, lambda gradient: cho_solve((factor, True), gradient))
            return table.back(middle[None], coef[:, None], solved)

    def shortfall(self, params: Linear) -> str:
        return "" if np.all(params.converged) else self.UNSOLVED

    def predict(self, params: Linear, x: Float[Arr, "n f"], observed: Bool[Arr, "n f"]) -> Float[Array, "n p"]:
        return outputs(params, x, observed)

    def path(
        self,
        x: Float[Arr, "n f"],
        observed: Bool[Arr, "n f"],
        y: Float[Arr, " n"] | Int[Arr, " n"],
        weight: Float[Arr, " n"],
        penalties: Float[Arr, " k"],
    ) -> Linear:
        """The fits for all penalties, on a leading axis, from one eigendecomposition.

        With A the normal equations at the least penalty l, A = L L', and D what a penalty of 1 adds to them,
        those at p are L (I + (p - l) M) L' with M = L⁻¹ D L⁻ᵀ: the eigenvectors of M serve all of them.
        """
        with jax.default_matmul_precision("highest"):
            return _path(x, observed, y, weight, jnp.asarray(penalties))

    def fit_many(
        self,
        x: Float[Arr, "n f"],
        observed: Bool[Arr, "n f"],
        y: Float[Arr, " n"] | Int[Arr, " n"],
        weights: Float[Arr, "m n"],
        *,
        keys: Key[Array, " m"],
        settings: Mapping[str, Float[Arr, " m"]] | None = None,
    ) -> Linear:
        some = groups(weights)
        if not settings or some is None or len(some) == len(weights):
            return super().fit_many(x, observed, y, weights, keys=keys, settings=settings)
        return by_group(some, lambda w, _, own: self.path(x, observed, y, w, own["penalty"]), weights, keys, settings)


@jax.jit
def _path(x: Arr, observed: Arr, y: Arr, weight: Arr, penalties: Array) -> Linear:
    table, target, middle = _table(x, observed, y, weight)
    one = 1 / table.total / table.scale**2
    least = penalties.min()
    factor = _factor(table, least * one)
    half = solve_triangular(factor, jnp.diag(jnp.sqrt(one)), lower=True)
    values, vectors = jnp.linalg.eigh(half @ half.T)

    def fit(penalty: Array) -> Linear:
        shrunk = 1 / (1 + (penalty - least) * jnp.maximum(values, 0))

        def solve(gradient: Array) -> Array:
            inner = vectors @ (shrunk * (vectors.T @ solve_triangular(factor, gradient, lower=True)))
            return solve_triangular(factor, inner, lower=True, trans=1)

        coef, solved = _refined(table, target, penalty * one, solve)
        return table.back(middle[None], coef[:, None], solved)

    return jax.vmap(fit)(penalties)


def _table(x: Arr, observed: Arr, y: Arr, weight: Arr) -> tuple[Standard, Array, Array]:
    """The table, the target about its mean, and that mean."""
    table = standard(x, observed, weight)
    target = jnp.where(weight > 0, y, 0).astype(table.z.dtype)
    middle = (table.share * target).sum()
    middle = middle + (table.share * (target - middle)).sum()
    return table, jnp.where(weight > 0, target - middle, 0), middle


def _factor(table: Standard, ridge: Array) -> Array:
    """The Cholesky factor of the normal equations, a trace of rounding's size added: refining takes it out again."""
    gram = gram_of(table.z, table.share) + jnp.diag(ridge)
    guard = 4 * len(gram) * jnp.finfo(gram.dtype).eps * jnp.diag(gram)
    return jnp.linalg.cholesky(gram + jnp.diag(jnp.where(guard > 0, guard, 1)))


def _refined(table: Standard, target: Array, ridge: Array, solve) -> tuple[Array, Array]:
    """The coefficients, and whether the gradient vanishes at them, the target in units of its spread."""

    def gradient(coef: Array) -> Array:
        return table.z.T @ (table.share * (target - table.z @ coef)) - ridge * coef

    coef = lax.fori_loop(0, REFINEMENTS, lambda _, coef: coef + solve(gradient(coef)), jnp.zeros_like(ridge))
    spread = jnp.sqrt((table.share * target**2).sum())
    left = jnp.abs(gradient(coef)).max(initial=0) / jnp.where(spread > 0, spread, 1)
    return coef, vanishes(left, 0.0)
