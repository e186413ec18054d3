"""SMO in XLA: of the dual of support vector machines, the block of variables that violate most is solved for in turn.

A block's own problem is small and solved by steps of two variables; the gradient of all then moves by one matrix
product. It is kept as a sum of two float32, since thousands of such moves add up (Osuna, Freund & Girosi 1997;
Joachims 1999; second-order choice within the block by Fan, Chen & Lin 2005).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from framework.baselines.svm.kernels import Kernel
from framework.types import Arr

BLOCK = 64
Vector = Float[Arr, " n"]


class Box(NamedTuple):
    """Bounds, and the price ε of either side of zero."""

    low: Vector
    high: Vector
    epsilon: Float[Arr, ""]


def solve(
    kernel: Kernel,
    tolerance: float,
    gram: Float[Arr, "n n"],
    gamma: Float[Arr, ""],
    linear: Float[Arr, "p n"],
    low: Float[Arr, "p n"],
    high: Float[Arr, "p n"],
    epsilon: Float[Arr, ""],
) -> tuple[Float[Array, "p n"], Float[Array, " p"], Float[Array, " p"], Int[Array, " p"]]:
    """Coefficients, offset, violation and steps of each problem of `framework.baselines.svm.svm_dual`."""
    norms = jnp.diagonal(gram)
    values = kernel.values(jnp.asarray(gram), norms, norms, gamma)
    return jax.vmap(lambda q, a, b: _solve(values, q, Box(a, b, epsilon), tolerance))(linear, low, high)


def _solve(values: Float[Arr, "n n"], linear: Vector, box: Box, tolerance: float):
    n = linear.shape[0]
    half, limit = min(BLOCK, n + n % 2) // 2, max(1000, 10 * n)

    def unsolved(state):
        beta, gradient, _, step = state
        return (_gap(*_scores(beta, gradient, box)) >= tolerance) & (step < limit)

    def block(state):
        beta, gradient, rest, step = state
        rise, cost = _scores(beta, gradient, box)
        index = jnp.concatenate([lax.top_k(rise, half)[1], lax.top_k(-cost, half)[1]])
        again = jnp.tril(index[:, None] == index, -1).any(1)  # a variable chosen from both ends stands for itself once
        own = Box(jnp.where(again, 0.0, box.low[index]), jnp.where(again, 0.0, box.high[index]), box.epsilon)
        before = jnp.where(again, 0.0, beta[index])
        rows = values[index]
        enough = jnp.maximum(0.1 * _gap(rise, cost), 0.5 * tolerance)
        after = _pairs(rows[:, index], before, gradient[index], own, enough)
        change = after - before
        gradient, rest = _add(gradient, rest, jnp.matmul(change, rows, precision=lax.Precision.HIGHEST))
        return beta.at[index].add(jnp.where(again, 0.0, change)), gradient, rest, step + 1

    start = (jnp.zeros_like(linear), jnp.asarray(linear), jnp.zeros_like(linear), jnp.int32(0))
    beta, gradient, _, step = lax.while_loop(unsolved, block, start)
    beta = jnp.clip(beta, box.low, box.high)
    rise, cost = _scores(beta, gradient, box)
    return beta, _offset(beta, rise, cost, box), jnp.maximum(_gap(rise, cost), 0.0), step


def _pairs(values: Float[Arr, "q q"], beta: Vector, gradient: Vector, box: Box, enough: Float[Arr, ""]) -> Vector:
    """The block's own problem by sequential minimal optimisation, to half of what is violated now or better."""
    diagonal = jnp.diagonal(values)

    def unsolved(state):
        beta, gradient, step = state
        return (_gap(*_scores(beta, gradient, box)) >= enough) & (step < 32 * BLOCK)

    def pair(state):
        beta, gradient, step = state
        rise, cost = _scores(beta, gradient, box)
        i = jnp.argmax(rise)
        descent = jnp.where(jnp.isfinite(cost), rise[i] - cost, 0.0)
        bend = jnp.maximum(diagonal[i] + diagonal - 2 * values[i], 1e-12)
        j = jnp.argmax(jnp.where(descent > 0, descent**2 / bend, -1.0))
        end_i = jnp.where(beta[i] < 0, 0.0, box.high[i])
        end_j = jnp.where(beta[j] > 0, 0.0, box.low[j])
        move = jnp.minimum(descent[j] / bend[j], jnp.minimum(end_i - beta[i], beta[j] - end_j))
        new_i = jnp.where(move == end_i - beta[i], end_i, beta[i] + move)
        new_j = jnp.where(move == beta[j] - end_j, end_j, beta[j] - move)
        gradient = gradient + (new_i - beta[i]) * values[i] + (new_j - beta[j]) * values[j]
        return beta.at[i].set(new_i).at[j].set(new_j), gradient, step + 1

    return lax.while_loop(unsolved, pair, (beta, gradient, jnp.int32(0)))[0]


def _scores(beta: Vector, gradient: Vector, box: Box) -> tuple[Vector, Vector]:
    """How fast the objective falls where a variable grows, and rises where it shrinks; infinite where it may not."""
    rise = -(gradient + jnp.where(beta >= 0, box.epsilon, -box.epsilon))
    cost = -(gradient + jnp.where(beta > 0, box.epsilon, -box.epsilon))
    return jnp.where(beta < box.high, rise, -jnp.inf), jnp.where(beta > box.low, cost, jnp.inf)


def _gap(rise: Vector, cost: Vector) -> Float[Array, ""]:
    return rise.max() - cost.min()


def _add(sum_: Vector, rest: Vector, more: Vector) -> tuple[Vector, Vector]:
    """Compensated addition (Neumaier): what rounding takes is kept and given back."""
    more = more + rest
    total = sum_ + more
    return total, jnp.where(jnp.abs(sum_) >= jnp.abs(more), (sum_ - total) + more, (more - total) + sum_)


def _offset(beta: Vector, rise: Vector, cost: Vector, box: Box) -> Float[Array, ""]:
    """By the free variables; without any, by the middle of what the others allow."""
    free = (beta != 0) & (beta > box.low) & (beta < box.high)
    most, least = rise.max(), cost.min()
    above, below = jnp.isfinite(most), jnp.isfinite(least)
    middle = jnp.where(above & below, (most + least) / 2, jnp.where(above, most, jnp.where(below, least, 0.0)))
    return jnp.where(free.any(), jnp.where(free, rise, 0.0).sum() / jnp.maximum(free.sum(), 1), middle)
