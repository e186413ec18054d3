"""FISTA, accelerated proximal gradients: minima of a smooth convex function plus a penalty on absolute values."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from framework.baselines.linear.newton import vanishes
from framework.types import Arr


def soft(at: Float[Arr, "..."], threshold: Float[Arr, "..."]) -> Float[Array, "..."]:
    """Each number moved towards 0 by the threshold, and no further."""
    return jnp.sign(at) * jnp.maximum(jnp.abs(at) - threshold, 0)


def proximal(
    objective: Callable[[Float[Array, " d"]], Float[Array, ""]],
    start: Float[Array, " d"],
    penalty: Float[Array, " d"],
    bound: Float[Array, " d"],
    tolerance: float,
    steps: int,
) -> tuple[Float[Array, " d"], Bool[Array, ""]]:
    """Where no component of the generalised gradient exceeds `tolerance`, and whether it is there (see `vanishes`).

    `bound` are curvatures that the objective nowhere exceeds, in the sense that diag(bound) - Hessian is positive.
    FISTA (Beck & Teboulle 2009), started again where the momentum points uphill (O'Donoghue & Candès 2015, Eq. 13).
    """
    slope = jax.grad(objective)

    def go_on(state: tuple) -> Array:
        _, _, _, size, step = state
        return (step < steps) & (size > tolerance)

    def move(state: tuple) -> tuple:
        at, ahead, momentum, _, step = state
        new = soft(ahead - slope(ahead) / bound, penalty / bound)
        uphill = ((ahead - new) * bound) @ (new - at) > 0
        larger = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
        further = jnp.where(uphill, new, new + (momentum - 1) / larger * (new - at))
        size = jnp.abs((ahead - new) * bound).max()
        return new, further, jnp.where(uphill, 1, larger), size, step + 1

    start = lax.optimization_barrier(start)  # see newton
    one = jnp.ones((), start.dtype)
    at, _, _, size, _ = lax.while_loop(go_on, move, (start, start, one, one * jnp.inf, jnp.array(0)))
    return at, vanishes(size, tolerance)
