"""Cost of gradient descent beside direct solvers.

    python -m benchmarks.descent

Ridge and softmax regression on tables of n rows and d columns, each optimised by the direct solver, by L-BFGS and by
stochastic gradients with momentum. `ratio` is the time of L-BFGS over the direct solver's, in the worst case; the
number of steps is the smallest tried that comes within a relative 1e-4 (L-BFGS) or 1e-2 (stochastic) of the least
objective, or None. Programs are compiled beforehand; all solvers run in one process, in turns.
"""

import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import measure
from framework.baselines.linear.logistic import Logistic
from framework.baselines.linear.ridge import Ridge
from framework.baselines.linear.sgd_lbfgs import lbfgs, sgd

SIZES = ((2_000, 50), (10_000, 50))
CLASSES, PENALTY, ROUNDS = 3, 1.0, 5
STEPS = {"lbfgs": (10, 20, 40, 80), "sgd": (400, 3200)}
TOLERANCE = {"lbfgs": 1e-4, "sgd": 1e-2}
RATE = {"ridge": 0.02, "softmax": 0.2}
KEY = jax.random.key(0)


def main() -> dict:
    """Measure, print a table and write the record."""
    cases = {f"{kind} {n}x{d}": case(kind, n, d) for kind in ("ridge", "softmax") for n, d in SIZES}
    for name, timed in cases.items():
        times = ", ".join(
            f"{solver} {timed[solver]['median_ms']} ms" for solver in ("direct", *STEPS) if timed.get(solver)
        )
        print(f"{name:18} {times}; steps {timed['steps']}")
    environment = {
        "device": jax.devices()[0].device_kind,
        "versions": {"jax": jax.__version__, "numpy": np.__version__},
    }
    result = measure.record("descent", environment, cases)
    measure.write(result)
    return result


def case(kind: str, n: int, d: int) -> dict:
    """Time the three solvers on one objective."""
    x, y = table(kind, n, d)
    seen, weight = jnp.ones(x.shape, bool), jnp.ones(n)
    model = Ridge(PENALTY) if kind == "ridge" else Logistic(CLASSES, PENALTY)
    direct = jax.jit(partial(model.fit, key=KEY))
    objective, batch_objective = objectives(kind, x, y)
    solved = direct(x, seen, y, weight)
    least = float(objective(jnp.concatenate([solved.intercept, solved.coef.reshape(-1)])))
    start = jnp.zeros_like(jnp.concatenate([solved.intercept, solved.coef.reshape(-1)]))
    solvers: dict[str, Callable[[int], object]] = {
        "lbfgs": lambda steps: lbfgs(objective, start, steps=steps),
        "sgd": lambda steps: sgd(batch_objective, start, rows=n, batch=64, steps=steps, rate=RATE[kind], key=KEY),
    }
    steps = {name: enough_steps(solve, objective, least, name) for name, solve in solvers.items()}
    turns = {"direct": turn(lambda: direct(x, seen, y, weight))}
    turns |= {name: turn(partial(solvers[name], count)) for name, count in steps.items() if count}
    taken = measure.interleave(turns, ROUNDS, 1)
    timed: dict = {name: measure.summary(seconds) for name, seconds in taken.items()}
    timed |= {"steps": steps, "objective": round(least, 6)}
    if "lbfgs" in taken:
        timed |= {"peer": "L-BFGS", **measure.against(taken["direct"], taken["lbfgs"])}
    return timed


def enough_steps(solve: Callable, objective: Callable, least: float, solver: str) -> int | None:
    """Find the smallest number of steps whose objective is within the tolerance of the least."""
    bound = least * (1 + TOLERANCE[solver])
    return next((steps for steps in STEPS[solver] if float(objective(solve(steps)[0])) <= bound), None)


def turn(solve: Callable[[], object]) -> measure.Turn:
    """Return a function that measures the seconds of successive calls."""

    def timed_calls(calls: int) -> list[float]:
        seconds = []
        for _ in range(calls):
            begun = time.perf_counter()
            jax.block_until_ready(solve())
            seconds.append(time.perf_counter() - begun)
        return seconds

    return timed_calls


def table(kind: str, n: int, d: int) -> tuple[jax.Array, jax.Array]:
    """Simulate correlated columns of unit spread and an outcome that depends on them with noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d)) @ (np.eye(d) + 0.3 * rng.normal(size=(d, d)))
    x = (x - x.mean(0)) / x.std(0)
    scores = x @ rng.normal(size=(d, CLASSES)) / np.sqrt(d) + rng.normal(size=(n, CLASSES))
    y = scores[:, 0].astype(np.float32) if kind == "ridge" else scores.argmax(1)
    return jnp.asarray(x, jnp.float32), jnp.asarray(y)


def objectives(kind: str, x: jax.Array, y: jax.Array) -> tuple[Callable, Callable]:
    """Return the mean objective of all rows, and that of a batch of rows."""
    columns = 1 if kind == "ridge" else CLASSES

    def batch_objective(params: jax.Array, rows: jax.Array | slice) -> jax.Array:
        outputs = x[rows] @ params[columns:].reshape(-1, columns) + params[:columns]
        if kind == "ridge":
            loss, half = ((y[rows] - outputs[:, 0]) ** 2).mean(), 1.0
        else:
            loss = -jnp.take_along_axis(jax.nn.log_softmax(outputs), y[rows][:, None], 1).mean()
            half = 0.5
        return loss + half * PENALTY / len(x) * (params[columns:] ** 2).sum()

    return lambda params: batch_objective(params, slice(None)), batch_objective


if __name__ == "__main__":
    main()
