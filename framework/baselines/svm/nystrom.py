"""Kernel machines on too many rows: features from few landmarks (Williams & Seeger 2001), solved in the primal.

The squared hinge and the squared ε-insensitive loss, whose Newton steps are exact least squares on the rows that cost
something (Keerthi & DeCoste 2005); with C weighted like scikit-learn's LinearSVC.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from framework.baselines.svm.kernels import Kernel, lengths
from framework.baselines.svm.svm_dual import Problems
from framework.types import Arr


def landmarks(key: Key[Array, ""], weight: Float[Arr, " n"], number: int) -> Int[Array, " m"]:
    """Rows drawn from the weighted ones without replacement."""
    used = weight > 0
    draw = jax.random.uniform(key, used.shape, jnp.float32)[
        jnp.maximum(jnp.cumsum(used) - 1, 0)
    ]  # rows without weight draw nothing
    return lax.top_k(jnp.where(used, draw, -1.0), min(number, len(used)))[1].astype(jnp.int32)


def solve(
    kernel: Kernel,
    x: Float[Arr, "n f"],
    marks: Float[Arr, "m f"],
    known: Float[Arr, " m"],
    gamma: Float[Arr, ""],
    problems: Problems,
) -> tuple[Float[Array, "p m"], Float[Array, " p"], Float[Array, "p n"], Bool[Array, ""]]:
    """Return each problem's coefficients over the landmarks, the offset, and the decisions on all rows; whether all are
    solved.

    A landmark that is not known (1, else 0) takes no part.
    """
    inner = kernel.values(kernel.products(marks, marks), lengths(marks), lengths(marks), gamma)
    spread, axes = jnp.linalg.eigh(inner * known * known[:, None])
    firm = spread > 1e-6 * spread.max()
    white = axes * jnp.where(firm, lax.rsqrt(jnp.where(firm, spread, 1.0)), 0.0)
    features = kernel.values(kernel.products(x, marks), lengths(x), lengths(marks), gamma) @ (known[:, None] * white)
    wide = jnp.concatenate([features, jnp.ones((len(x), 1), features.dtype)], 1)
    each = (problems.linear, problems.low, problems.high)
    lines, solved = lax.map(lambda one: _primal(wide, one[0], one[1], one[2], problems.epsilon), each)
    return lines[:, :-1] @ (known[:, None] * white).T, lines[:, -1], lines @ wide.T, solved.all()


def _primal(x: Float[Arr, "n m"], linear: Arr, low: Arr, high: Arr, epsilon: Arr) -> tuple[Array, Array]:
    """The weights, the last of them the offset, and whether no step lowers the loss any more: ½|w|² + Σ C r², r by how
    far a row is on the wrong side.
    """
    cost, target = jnp.maximum(high, -low), -linear
    sides = (low < 0) & (high > 0)  # a number may be missed on either side, a class on one
    penalty = jnp.ones(x.shape[1], x.dtype).at[-1].set(1e-6)

    def wrong(answer):
        by = answer - target
        number = jnp.sign(by) * jnp.maximum(jnp.abs(by) - epsilon, 0.0)
        return jnp.where(sides, number, jnp.where(answer * target < 1, by, 0.0)) * (cost > 0)

    def loss(line, answer):
        return 0.5 * (penalty * line**2).sum() + (cost * wrong(answer) ** 2).sum()

    def newton(state):
        line, answer, step, _ = state
        r = wrong(answer)
        slope = penalty * line + 2 * (cost * r) @ x
        bend = jnp.diag(penalty) + 2 * (x * (cost * (r != 0))[:, None]).T @ x
        way = -jnp.linalg.solve(bend, slope)
        ahead = x @ way
        sizes = 0.5 ** jnp.arange(10, dtype=x.dtype)
        losses = jax.vmap(lambda size: loss(line + size * way, answer + size * ahead))(sizes)
        best, now = jnp.argmin(losses), loss(line, answer)
        helps = losses[best] < now
        size = jnp.where(helps, sizes[best], 0.0)
        return line + size * way, answer + size * ahead, step + 1, helps & (now - losses[best] > 1e-6 * jnp.abs(now))

    start = (jnp.zeros_like(penalty), jnp.zeros_like(cost), jnp.int32(0), jnp.bool_(True))
    line, _, _, falling = lax.while_loop(lambda state: state[3] & (state[2] < 50), newton, start)
    return line, ~falling
