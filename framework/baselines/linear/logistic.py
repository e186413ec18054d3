"""Logistic regression, binary and softmax, with an elastic net."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import cho_solve
from jaxtyping import Array, Bool, Float, Int

from framework.baselines.linear.base import Linear, Penalised, Standard, gram_of, outputs, standard
from framework.baselines.linear.fista import proximal
from framework.baselines.linear.newton import newton
from framework.types import Arr

Loss = Callable[[Float[Array, " d"]], Float[Array, ""]]


@dataclass(frozen=True)
class Logistic(Penalised):
    """Minimises sum of w (-log p(y)) + penalty (l1_ratio |b|₁ + (1 - l1_ratio) |b|² / 2); intercepts are free.

    Two classes have one column of coefficients, more have one each (softmax). `penalty` is 1/C elsewhere. Solved until
    no component of the gradient of the mean loss, features in standard coordinates, exceeds `tolerance`, or float32
    tells no more: by Newton's method where l1_ratio is 0, else by accelerated proximal gradients. What is missing
    counts as 0.
    """

    classes: int
    penalty: float | Float[Arr, ""] = 1.0
    l1_ratio: float = 0.0
    tolerance: float = 1e-7
    steps: int = 20_000
    UNSOLVED = "logistic regression did not converge; give a larger penalty, or fewer features that tell of each other"

    def path(
        self,
        x: Float[Arr, "n f"],
        observed: Bool[Arr, "n f"],
        y: Float[Arr, " n"] | Int[Arr, " n"],
        weight: Float[Arr, " n"],
        penalties: Float[Arr, " k"],
    ) -> Linear:
        """The fits for all penalties on a leading axis, each started from that of the next larger one."""
        with jax.default_matmul_precision("highest"):
            return _path(self.classes, self.l1_ratio, self.tolerance, self.steps, x, observed, y, weight, penalties)

    def predict(self, params: Linear, x: Float[Arr, "n f"], observed: Bool[Arr, "n f"]) -> Float[Array, "n p"]:
        return jax.nn.softmax(_of_each_class(outputs(params, x, observed)), axis=1)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _path(
    classes: int, l1_ratio: float, tolerance: float, steps: int, x: Arr, observed: Arr, y: Arr, weight: Arr, penalties
) -> Linear:
    table = standard(x, observed, weight)
    loss, shape, start = logistic_loss(table, y, classes)
    gram = gram_of(table.z, table.share) / (4 if classes == 2 else 2)
    flat = jnp.zeros((1, shape[1]))

    def of_coefficients(each: Array) -> Array:
        """Something for each feature as a vector like the parameters, 0 for the intercepts."""
        return jnp.concatenate([flat, jnp.broadcast_to(each[:, None], (len(each), shape[1]))]).reshape(-1)

    def fit(at: Array, penalty: Array) -> tuple[Array, tuple[Array, Array]]:
        l1 = of_coefficients(penalty * l1_ratio / table.total / table.scale)
        l2 = penalty * (1 - l1_ratio) / table.total / table.scale**2
        half = of_coefficients(l2) / 2

        def objective(at: Array) -> Array:
            return loss(at) + (half * at**2).sum()

        if l1_ratio:
            bound = of_coefficients(jnp.full_like(table.scale, 1.01 * jnp.linalg.eigvalsh(gram)[-1]) + l2)
            bound = jnp.where(bound > 0, bound, 0.5 + shape[1])
            at, solved = proximal(objective, at, l1, bound, tolerance, steps)
        else:
            at, solved = newton(objective, at, _preconditioner(gram + jnp.diag(l2), shape), tolerance, steps)
        return at, (at, solved)

    order = jnp.argsort(-penalties)
    found, solved = (jnp.zeros_like(part).at[order].set(part) for part in lax.scan(fit, start, penalties[order])[1])
    return jax.vmap(lambda at, solved: table.back(at[0], at[1:], solved))(found.reshape(-1, *shape), solved)


def logistic_loss(table: Standard, y: Arr, classes: int) -> tuple[Loss, tuple[int, int], Array]:
    """The mean loss of the flattened parameters (intercepts, then coefficients), their shape, where to start.

    Softmax does not notice a number added to all intercepts; the loss prefers those that sum to 0.
    """
    columns = 1 if classes == 2 else classes
    shape = (table.z.shape[1] + 1, columns)
    level = jnp.where(table.share > 0, y, 0).astype(int)
    truth = jax.nn.one_hot(level, classes, dtype=table.z.dtype)

    def loss(at: Array) -> Array:
        at = at.reshape(shape)
        log_probs = jax.nn.log_softmax(_of_each_class(table.z @ at[1:] + at[0]))
        return -(table.share[:, None] * truth * log_probs).sum() + (at[0].sum() ** 2 / 2 if columns > 1 else 0)

    return loss, shape, jnp.zeros(shape, table.z.dtype).reshape(-1)


def _of_each_class(columns: Array) -> Array:
    return columns if columns.shape[1] > 1 else jnp.concatenate([jnp.zeros_like(columns), columns], 1)


def _preconditioner(gram: Array, shape: tuple[int, int]) -> Callable[[Array], Array]:
    """Solves with an upper bound of the Hessian (Böhning 1992)."""
    guard = 4 * len(gram) * jnp.finfo(gram.dtype).eps * jnp.maximum(jnp.diag(gram), 1e-6)
    factor = jnp.linalg.cholesky(gram + jnp.diag(guard))

    def solve(right: Array) -> Array:
        right = right.reshape(shape)
        return jnp.concatenate([right[:1] * 4, cho_solve((factor, True), right[1:])]).reshape(-1)

    return solve
