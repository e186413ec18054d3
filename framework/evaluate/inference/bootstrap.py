"""The subject bootstrap: how far a score could have come out otherwise had other subjects been tested.

Subjects, not visits, are drawn with replacement, because a subject's visits are alike (Davison & Hinkley 1997, 3.8).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from framework.evaluate.metrics.base import Mean, Metric
from framework.types import Arr, pytree

WEIGHTS_AT_ONCE = 2**20  # bounds the memory of a chunk of resamples, and keeps what it works on in the cache

Score = Callable[[Float[Array, "c n"]], Float[Array, "c k m"]]  # c weightings of the subjects -> their scores


@pytree
class Scores:
    """k metrics of m models: as observed, in b resamples of the subjects, and with each of n subjects left out."""

    value: Float[Array, "k m"]
    draws: Float[Array, "b k m"]
    without: Float[Array, "n k m"]


@partial(jax.jit, static_argnames=("metrics", "subjects", "resamples"))
def scores(
    metrics: tuple[Metric, ...],
    forecasts: Float[Arr, "m r q p"],
    truth: Float[Arr, "q ..."],
    subject: Int[Arr, " q"],
    *,
    subjects: int,
    resamples: int,
    key: Key[Array, ""],
    weight: Float[Arr, " q"] | None = None,
    fold: Int[Arr, "r q"] | None = None,
) -> Scores:
    """The k metrics of m models, each the mean over r repeats; queries of `weight` 0 are left out (other subgroups).

    Where `fold` says which model answered, rankings compare no queries of different models.
    Resample i is the same for all models, repeats, metrics and subgroups, whatever the chunks it is computed in.
    """
    score = _scorer(metrics, forecasts, truth, subject, subjects, weight, fold)
    return Scores(*resampled(score, subjects, resamples, key, forecasts.shape[2]))


def resampled(
    score: Callable[[Float[Array, "c n"]], Float[Array, "c ..."]],
    subjects: int,
    resamples: int,
    key: Key[Array, ""],
    size: int,
) -> tuple[Float[Array, "..."], Float[Array, "b ..."], Float[Array, "n ..."]]:
    """Scores of the n subjects, of b resamples of them and with each left out, by how often each subject counts.

    `size` is how many numbers a weighting takes, which bounds how many are scored at once.
    """
    count = resamples + subjects + 1

    def some(number: Int[Array, " c"]) -> Float[Array, "c ..."]:
        # the resamples, then all but one subject, then all: one program, so that it compiles once
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, number)
        others = (number[:, None] - resamples != jnp.arange(subjects)).astype(float)
        return score(jnp.where(number[:, None] < resamples, jax.vmap(draw, (0, None))(keys, subjects), others))

    chunk = max(1, min(count, 512, WEIGHTS_AT_ONCE // size))
    chunks = -(-count // chunk)
    found = lax.map(some, jnp.arange(chunks * chunk).reshape(chunks, chunk))
    found = found.reshape(-1, *found.shape[2:])
    return found[count - 1], found[:resamples], found[resamples : count - 1]


def _scorer(
    metrics: tuple[Metric, ...],
    forecasts: Float[Arr, "m r q p"],
    truth: Float[Arr, "q ..."],
    subject: Int[Arr, " q"],
    subjects: int,
    weight: Float[Arr, " q"] | None,
    fold: Int[Arr, "r q"] | None,
) -> Score:
    """All metrics as one function of how often each subject counts; what needs no counts is done here, once."""
    models, repeats, queries, _ = forecasts.shape
    flat = jnp.reshape(jnp.asarray(forecasts), (models * repeats, queries, -1))
    own = jnp.ones(queries) if weight is None else jnp.asarray(weight, float)
    if fold is None:
        ready = [jax.vmap(metric.prepare, (0, None))(flat, truth) for metric in metrics]
    else:
        of = jnp.tile(jnp.asarray(fold), (models, 1))
        ready = [jax.vmap(metric.prepare_within, (0, None, 0))(flat, truth, of) for metric in metrics]
    means = [isinstance(metric, Mean) for metric in metrics]
    sums = [
        _by_subject(metric, one, own, subject, subjects)
        for metric, one, is_mean in zip(metrics, ready, means, strict=True)
        if is_mean
    ]
    table = jnp.concatenate([one.reshape(subjects, -1) for one in sums], axis=1) if sums else None

    def score(counts: Float[Array, "c n"]) -> Float[Array, "c k m"]:
        totals = _cut(jnp.dot(counts, table, precision="highest"), sums) if table is not None else iter(())
        columns = []
        for metric, one, is_mean in zip(metrics, ready, means, strict=True):
            if is_mean:
                total = next(totals)
                each = jax.vmap(jax.vmap(metric.finish))(total[..., :-1] / total[..., -1:])  # pyright: ignore
            else:
                each = _one_by_one(metric, one, counts[:, subject] * own, subject)
            columns.append(each.reshape(-1, models, repeats).mean(axis=2))
        return jnp.stack(columns, axis=1)

    return score


def _by_subject(
    metric: Metric, terms: Float[Array, "l q k"], weight: Float[Array, " q"], subject: Int[Arr, " q"], subjects: int
) -> Float[Array, "n l k+1"]:
    """Each subject's weighted sums of a mean's terms, and of the weights: all that any resample needs of it."""
    share = metric.weigh(weight, subject)
    counted = jnp.where(share[:, None] > 0, terms * share[:, None], 0)
    whole = jnp.concatenate([counted, jnp.broadcast_to(share[:, None], (*terms.shape[:2], 1))], axis=2)
    return jax.ops.segment_sum(whole.swapaxes(0, 1), jnp.asarray(subject), subjects)


def _cut(totals: Float[Array, "c w"], sums: list[Float[Array, "n l k"]]):
    """The columns of a product back into the tables they came from."""
    start = 0
    for one in sums:
        width = one.shape[1] * one.shape[2]
        yield totals[:, start : start + width].reshape(-1, *one.shape[1:])
        start += width


def _one_by_one(metric: Metric, ready, weights: Float[Array, "c q"], subject: Int[Arr, " q"]) -> Float[Array, "c l"]:
    """A metric that is no function of means: model by model, all weightings of one at once."""
    weighed = jax.vmap(metric.weigh, (0, None))(weights, subject)
    return lax.map(lambda one: jax.vmap(partial(metric.score_resample, one))(weighed), ready).T


def draw(key: Key[Array, ""], subjects: int) -> Float[Array, " n"]:
    """How often each subject occurs in a sample of as many, drawn with replacement."""
    return jnp.zeros(subjects).at[jax.random.randint(key, (subjects,), 0, subjects)].add(1)
