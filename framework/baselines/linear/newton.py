"""Minima of smooth convex functions: Newton's steps, each found by preconditioned conjugate gradients."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

Objective = Callable[[Float[Array, " d"]], Float[Array, ""]]
INNER = 200  # products with the Hessian that one step may take
HALVINGS = 15


def newton(
    objective: Objective,
    start: Float[Array, " d"],
    precondition: Callable[[Float[Array, " d"]], Float[Array, " d"]],
    tolerance: float,
    steps: int,
) -> tuple[Float[Array, " d"], Bool[Array, ""]]:
    """Where no component of the gradient exceeds `tolerance`, or where rounding lets no step go on; and whether it is
    one of the two (see `vanishes`), rather than where `steps` ran out or the search got stuck.

    Truncated Newton with backtracking (Nocedal & Wright 2006, Algorithm 7.1). A step is only judged by the objective
    while that can tell: below its rounding the gradient decides.
    """
    slope = jax.value_and_grad(objective)

    def go_on(state: tuple) -> Array:
        _, _, gradient, step, moved = state
        return (step < steps) & moved & (jnp.abs(gradient).max() > tolerance)

    def move(state: tuple) -> tuple:
        at, value, gradient, step, _ = state
        _, curve = jax.linearize(jax.grad(objective), at)
        direction = _solve(curve, -gradient, precondition)
        length, value, new = _search(slope, at, value, gradient, direction)
        return at + length * direction, value, new, step + 1, length > 0

    start = lax.optimization_barrier(start)  # XLA folds a loss at constant zeros while it compiles, now and then to NaN
    value, gradient = slope(start)
    at, value, gradient, *_ = lax.while_loop(go_on, move, (start, value, gradient, jnp.array(0), jnp.array(True)))
    return at, vanishes(jnp.abs(gradient).max(initial=0), tolerance, value)


def vanishes(size: Float[Array, ""], tolerance: float, value: Float[Array, ""] | float = 1.0) -> Bool[Array, ""]:
    """Whether a gradient's largest component is 0 as far as a function of this value can tell: by the tolerance, or by
    the root of the rounding, below which the function itself does not change.
    """
    return size <= jnp.maximum(tolerance, jnp.sqrt(jnp.finfo(size.dtype).eps) * jnp.maximum(jnp.abs(value), 1))


def _search(slope: Callable, at: Array, value: Array, gradient: Array, direction: Array) -> tuple[Array, Array, Array]:
    """The longest of 1, 1/2, 1/4 ... that lowers the objective enough, or the gradient where the rest is rounding."""
    fall = gradient @ direction
    blur = 8 * jnp.finfo(at.dtype).eps * jnp.maximum(jnp.abs(value), jnp.finfo(at.dtype).tiny)
    size = jnp.abs(gradient).max()

    def tried(length: Array) -> tuple[Array, Array, Array]:
        new, grad = slope(at + length * direction)
        lower = new <= value + 1e-4 * length * fall
        flat = (jnp.abs(new - value) <= blur) & (jnp.abs(grad).max() < size)
        return lower & (-length * fall > blur) | flat, new, grad

    def shorter(state: tuple) -> tuple:
        length, halvings, _, _, _ = state
        return length / 2, halvings + 1, *tried(length / 2)

    one = jnp.ones((), at.dtype)
    state = lax.while_loop(lambda s: ~s[2] & (s[1] < HALVINGS), shorter, (one, jnp.array(0), *tried(one)))
    length, _, good, new, grad = state
    return jnp.where(good, length, 0), jnp.where(good, new, value), jnp.where(good, grad, gradient)


def _solve(curve: Callable[[Array], Array], right: Array, precondition: Callable[[Array], Array]) -> Array:
    """Conjugate gradients until the residual is a tenth of what it was, and less and less as the gradient vanishes."""
    size, eps = jnp.linalg.norm(right), jnp.finfo(right.dtype).eps
    enough = size * jnp.minimum(0.1, jnp.sqrt(size))

    def go_on(state: tuple) -> Array:
        _, residual, _, _, count, convex = state
        return convex & (count < INNER) & (jnp.linalg.norm(residual) > enough)

    def step(state: tuple) -> tuple:
        found, residual, ahead, inner, count, _ = state
        bent = curve(ahead)
        bend = ahead @ bent
        convex = bend > 8 * eps * jnp.linalg.norm(ahead) * jnp.linalg.norm(bent)  # else it is rounding
        share = jnp.where(convex, inner / jnp.where(convex, bend, 1), 0)
        found, residual = found + share * ahead, residual - share * bent
        better = precondition(residual)
        new = residual @ better
        return found, residual, better + new / jnp.where(inner > 0, inner, 1) * ahead, new, count + 1, convex

    first = precondition(right)
    start = (jnp.zeros_like(right), right, first, right @ first, jnp.array(0), jnp.array(True))
    found = lax.while_loop(go_on, step, start)[0]
    return jnp.where(found.any(), found, first)
