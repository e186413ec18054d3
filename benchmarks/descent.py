"""What gradient descent costs beside the solvers that know their objective.

    python -m benchmarks.descent

Ridge and softmax regression on tables of n rows and d columns, each taken to the optimum by the direct solver, by
L-BFGS and by stochastic gradients with momentum. `ratio` is the time of L-BFGS over the direct solver's, of the worst
case; the number of steps is the fewest, of those tried, that come within 1e-4 (L-BFGS) or 1e-2 (stochastic) of the
least objective, relatively; None where none did. Compiled beforehand; everything in one process, in turns.
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
NEAR = {"lbfgs": 1e-4, "sgd": 1e-2}
RATE = {"ridge": 0.02, "softmax": 0.2}
KEY = jax.random.key(0)


def main() -> dict:
    """Measure, print a table, and leave the result beside this module."""
    cases = {f"{kind} {n}x{d}": case(kind, n, d) for kind in ("ridge", "softmax") for n, d in SIZES}
    for name, told in cases.items():
        times = ", ".join(f"{way} {told[way]['median_ms']} ms" for way in ("direct", *STEPS) if told.get(way))
        print(f"{name:18} {times}; steps {told['steps']}")
    environment = {
        "device": jax.devices()[0].device_kind,
        "versions": {"jax": jax.__version__, "numpy": np.__version__},
    }
    result = measure.record("descent", environment, cases)
    measure.write(result)
    return result


def case(kind: str, n: int, d: int) -> dict:
    """Times of the three ways to one optimum."""
    x, y = table(kind, n, d)
    seen, weight = jnp.ones(x.shape, bool), jnp.ones(n)
    model = Ridge(PENALTY) if kind == "ridge" else Logistic(CLASSES, PENALTY)
    direct = jax.jit(partial(model.fit, key=KEY))
    whole, part = objectives(kind, x, y)
    solved = direct(x, seen, y, weight)
    least = float(whole(jnp.concatenate([solved.intercept, solved.coef.reshape(-1)])))
    start = jnp.zeros_like(jnp.concatenate([solved.intercept, solved.coef.reshape(-1)]))
    ways: dict[str, Callable[[int], object]] = {
        "lbfgs": lambda steps: lbfgs(whole, start, steps=steps),
        "sgd": lambda steps: sgd(part, start, rows=n, batch=64, steps=steps, rate=RATE[kind], key=KEY),
    }
    steps = {way: enough(go, whole, least, way) for way, go in ways.items()}
    turns = {"direct": turn(lambda: direct(x, seen, y, weight))}
    turns |= {way: turn(partial(ways[way], count)) for way, count in steps.items() if count}
    taken = measure.interleave(turns, ROUNDS, 1)
    told: dict = {way: measure.summary(seconds) for way, seconds in taken.items()}
    told |= {"steps": steps, "objective": round(least, 6)}
    if "lbfgs" in taken:
        told |= {"peer": "L-BFGS", **measure.against(taken["direct"], taken["lbfgs"])}
    return told


def enough(go: Callable, whole: Callable, least: float, way: str) -> int | None:
    """The fewest steps that come near enough to the least objective."""
    near = (steps for steps in STEPS[way] if float(whole(go(steps)[0])) <= least * (1 + NEAR[way]))
    return next(near, None)


def turn(go: Callable[[], object]) -> measure.Turn:
    """Seconds of so many calls."""

    def some(calls: int) -> list[float]:
        seconds = []
        for _ in range(calls):
            begun = time.perf_counter()
            jax.block_until_ready(go())
            seconds.append(time.perf_counter() - begun)
        return seconds

    return some


def table(kind: str, n: int, d: int) -> tuple[jax.Array, jax.Array]:
    """Correlated columns of unit spread, and what depends on them with noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d)) @ (np.eye(d) + 0.3 * rng.normal(size=(d, d)))
    x = (x - x.mean(0)) / x.std(0)
    told = x @ rng.normal(size=(d, CLASSES)) / np.sqrt(d) + rng.normal(size=(n, CLASSES))
    y = told[:, 0].astype(np.float32) if kind == "ridge" else told.argmax(1)
    return jnp.asarray(x, jnp.float32), jnp.asarray(y)


def objectives(kind: str, x: jax.Array, y: jax.Array) -> tuple[Callable, Callable]:
    """The mean objective of all rows, and of some."""
    columns = 1 if kind == "ridge" else CLASSES

    def of_rows(at: jax.Array, rows: jax.Array | slice) -> jax.Array:
        told = x[rows] @ at[columns:].reshape(-1, columns) + at[:columns]
        if kind == "ridge":
            loss, half = ((y[rows] - told[:, 0]) ** 2).mean(), 1.0
        else:
            loss = -jnp.take_along_axis(jax.nn.log_softmax(told), y[rows][:, None], 1).mean()
            half = 0.5
        return loss + half * PENALTY / len(x) * (at[columns:] ** 2).sum()

    return lambda at: of_rows(at, slice(None)), of_rows


if __name__ == "__main__":
    main()
