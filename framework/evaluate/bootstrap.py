"""The subject bootstrap: how far a score could have come out otherwise had other subjects been tested.

Subjects, not visits, are drawn with replacement, because a subject's visits are alike (Davison & Hinkley 1997, 3.8).
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key

from framework.evaluate.metric import Metric
from framework.types import Arr

WEIGHTS_AT_ONCE = 2**20  # bounds the memory of a chunk of resamples, and keeps what it works on in the cache


@partial(jax.jit, static_argnames=("metrics", "subjects", "resamples"))
def scores(
    metrics: tuple[Metric, ...],
    forecasts: Float[Arr, "m r q p"],
    truth: Float[Arr, " q"],
    subject: Int[Arr, " q"],
    *,
    subjects: int,
    resamples: int,
    key: Key[Array, ""],
) -> tuple[Float[Array, "k m"], Float[Array, "b k m"]]:
    """The k metrics of m models, each the mean over r repeats: as observed, and in b resamples of the subjects.

    Resample i is the same for all models, repeats and metrics, whatever the chunks they are computed in.
    """
    models, repeats, queries, _ = forecasts.shape
    flat = jnp.reshape(jnp.asarray(forecasts), (models * repeats, queries, -1))
    prepared = [jax.vmap(metric.prepare, (0, None))(flat, truth) for metric in metrics]

    def weighted(weights: Float[Array, "c q"]) -> Float[Array, "c k m"]:
        columns = []
        for metric, ready in zip(metrics, prepared, strict=True):
            weighed = jax.vmap(metric.weigh, (0, None))(weights, subject)
            each = lax.map(lambda one: jax.vmap(partial(metric.score, one))(weighed), ready)  # noqa: B023
            columns.append(jnp.mean(each.reshape(models, repeats, -1), axis=1).T)
        return jnp.stack(columns, axis=1)

    def resample(numbers: Int[Array, " c"]) -> Float[Array, "c k m"]:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
        return weighted(jax.vmap(draw, (0, None))(keys, subjects)[:, subject])

    chunk = max(1, min(resamples, 512, WEIGHTS_AT_ONCE // queries))
    chunks = -(-resamples // chunk)
    draws = lax.map(resample, jnp.arange(chunks * chunk).reshape(chunks, chunk))
    return weighted(jnp.ones((1, queries)))[0], draws.reshape(-1, *draws.shape[2:])[:resamples]


def draw(key: Key[Array, ""], subjects: int) -> Float[Array, " n"]:
    """How often each subject occurs in a sample of as many, drawn with replacement."""
    return jnp.zeros(subjects).at[jax.random.randint(key, (subjects,), 0, subjects)].add(1)


def interval(draws: Float[np.ndarray, " b"], coverage: float = 0.95) -> tuple[float, float]:
    """The percentile interval over the resamples in which the score is defined; NaN where it never is."""
    defined = draws[~np.isnan(draws)]
    if not defined.size:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - coverage) / 2, (1 + coverage) / 2])
    return float(low), float(high)
