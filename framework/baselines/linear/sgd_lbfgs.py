"""Gradient descent as such, on the objectives that the direct solvers have their own ways with."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, Key

Objective = Callable[[Float[Array, " d"]], Float[Array, ""]]
Descent = tuple[Float[Array, " d"], Float[Array, " s"]]  # where it ended, and the objective at each step


@partial(jax.jit, static_argnames=("objective", "steps", "memory"))
def lbfgs(objective: Objective, start: Float[Array, " d"], *, steps: int, memory: int = 10) -> Descent:
    """L-BFGS with a zoom line search (Nocedal & Wright 2006, Algorithms 7.5 and 3.5), the whole table a step."""
    method = optax.lbfgs(memory_size=memory)
    slope = optax.value_and_grad_from_state(objective)

    def step(state: tuple, _) -> tuple[tuple, Array]:
        at, momenta = state
        value, gradient = slope(at, state=momenta)
        move, momenta = method.update(gradient, momenta, at, value=value, grad=gradient, value_fn=objective)
        return (at + jnp.asarray(move), momenta), jnp.asarray(value)

    (at, _), values = lax.scan(step, (start, method.init(start)), length=steps)
    return at, values


@partial(jax.jit, static_argnames=("objective", "rows", "batch", "steps", "rate", "momentum"))
def sgd(
    objective: Callable[[Float[Array, " d"], Int[Array, " r"]], Float[Array, ""]],
    start: Float[Array, " d"],
    *,
    rows: int,
    batch: int,
    steps: int,
    rate: float,
    momentum: float = 0.9,
    key: Key[Array, ""],
) -> Descent:
    """Stochastic gradients of `objective(at, some rows)` over random batches, with Nesterov's momentum.

    The rate falls to 0 along half a cosine, so that the noise of the batches dies away.
    """
    schedule = optax.cosine_decay_schedule(1.0, steps)
    method = optax.sgd(lambda number: rate * schedule(number), momentum, nesterov=True)

    def step(state: tuple, number: Array) -> tuple[tuple, Array]:
        at, momenta = state
        some = jax.random.randint(jax.random.fold_in(key, number), (batch,), 0, rows)
        value, gradient = jax.value_and_grad(objective)(at, some)
        move, momenta = method.update(gradient, momenta, at)
        return (at + jnp.asarray(move), momenta), jnp.asarray(value)

    (at, _), values = lax.scan(step, (start, method.init(start)), jnp.arange(steps))
    return at, values
