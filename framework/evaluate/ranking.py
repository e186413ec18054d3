"""Scores of how well probabilities rank: sorted once, then one pass up the ranking for each weighting."""

from dataclasses import dataclass

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from framework.evaluate.metric import Metric
from framework.types import Arr

# order; is its score new; its class; is its fold new, or None where there is one fold
Ranking = tuple[Int[Array, " q"], Bool[Array, " q"], Int[Array, " q"], Bool[Array, " q"] | None]


@dataclass(frozen=True)
class Ranks(Metric):
    """A metric of rankings; with `positive` that of P(level >= positive), else a mean over the levels."""

    positive: int | None = None
    better = "higher"

    def prepare(self, prediction: Float[Arr, "q p"], truth: Float[Arr, " q"]) -> PyTree:
        said, came = split_at(self.positive, jnp.asarray(prediction), jnp.asarray(truth))
        levels = range(said.shape[1]) if self.positive is None else (1,)
        return tuple(ranking(said[:, level], came, level) for level in levels)


@dataclass(frozen=True)
class AUC(Ranks):
    """Area under the ROC curve of P(level >= positive), ties counting half; NaN unless both outcomes occur."""

    positive: int | None = 1
    title = "AUC"

    def score(self, prepared: PyTree, weight: Float[Arr, " q"]) -> Float[Array, ""]:
        return areas(prepared[0], weight, 1, 2)[0]


@dataclass(frozen=True)
class MAUC(Ranks):
    """Mean over pairs of classes of the AUC between them, with mid-ranks; NaN unless every class occurs.

    Hand & Till 2001, Eq. 7: A(i|j) ranks the members of i and j by the probability of i.
    """

    title = "mAUC"

    def score(self, prepared: PyTree, weight: Float[Arr, " q"]) -> Float[Array, ""]:
        classes = len(prepared)
        between = [areas(one, weight, level, classes) for level, one in enumerate(prepared)]
        return jnp.mean(jnp.stack(between))


@dataclass(frozen=True)
class AUPRC(Ranks):
    """Average precision: over the thresholds, precision weighted by the recall each adds; NaN unless events occur.

    No line is drawn between thresholds, which would flatter (Davis & Goadrich 2006). Without `positive` the mean over
    the levels, each against the rest.
    """

    title = "AUPRC"

    def score(self, prepared: PyTree, weight: Float[Arr, " q"]) -> Float[Array, ""]:
        levels = range(len(prepared)) if self.positive is None else (1,)
        return jnp.mean(
            jnp.stack([average_precision(one, weight, level) for one, level in zip(prepared, levels, strict=True)])
        )


def split_at(
    positive: int | None, prediction: Float[Array, "q p"], truth: Float[Array, " q"]
) -> tuple[Float[Array, "q c"], Int[Array, " q"]]:
    """Probabilities and truths of the levels; of the rest and the event where `positive` cuts them in two."""
    if positive is None:
        return prediction, truth.astype(int)
    event = jnp.sum(prediction[:, positive:], axis=1)
    return jnp.stack([1 - event, event], axis=1), (truth >= positive).astype(int)


def ranking(
    score: Float[Array, " q"], true: Int[Array, " q"], level: int, fold: Int[Array, " q"] | None = None
) -> Ranking:
    """Ascending scores, among equals the members of `level` last; fold after fold."""
    order = jnp.lexsort((true == level, score, *(() if fold is None else (fold,))))
    fresh, opens = _new(score[order]), None if fold is None else _new(fold[order])
    return order, fresh if opens is None else fresh | opens, true[order], opens


def _new(values: Shaped[Array, " q"]) -> Bool[Array, " q"]:
    """Which differ from the one before."""
    return jnp.concatenate([jnp.ones(1, bool), values[1:] != values[:-1]])


def areas(one: Ranking, weight: Float[Arr, " q"], level: int, classes: int) -> Float[Array, " j"]:
    """For each other class the weighted chance that a member of `level` scores above one of it, ties counting half.

    A member meets the weight of those strictly below it and that of those before it, its equals among them: half the
    sum is the mid-rank. Where a fold opens the pairs of the last one are counted and it begins anew. The state is one
    number a class, so that many weightings are lanes of one pass.
    """
    order, fresh, true, opens = one
    others = [j for j in range(classes) if j != level]

    def climb(carry, row):
        (own, below, before, total, pairs), (is_fresh, opening, true, weight) = carry, row
        if opening is not None:
            pairs = [jnp.where(opening, p + own * b, p) for p, b in zip(pairs, before, strict=True)]
            own, before = jnp.where(opening, 0, own), [jnp.where(opening, 0, b) for b in before]
        event = jnp.where(true == level, weight, 0)
        below = [jnp.where(is_fresh, b, a) for a, b in zip(below, before, strict=True)]
        total = [t + event * (a + b) for t, a, b in zip(total, below, before, strict=True)]
        before = [b + jnp.where(true == j, weight, 0) for j, b in zip(others, before, strict=True)]
        return (own + event, below, before, total, pairs), None

    none = jnp.zeros((), weight.dtype)
    start = none, *([none] * len(others) for _ in range(4))
    (own, _, rest, total, pairs), _ = lax.scan(climb, start, (fresh, opens, true, jnp.asarray(weight)[order]))
    return jnp.stack([t / 2 / (p + own * r) for t, p, r in zip(total, pairs, rest, strict=True)])


def average_precision(one: Ranking, weight: Float[Arr, " q"], level: int) -> Float[Array, ""]:
    """The mean over members of `level` of the precision at their score, equals among the called."""
    order, fresh, true, _ = one

    def descend(carry, row):
        (tied, hit, called, total), (is_last, true, weight) = carry, row
        event = jnp.where(true == level, weight, 0)
        tied, hit, called = tied + event, hit + event, called + weight
        settled = total + tied * hit / jnp.maximum(called, jnp.finfo(called.dtype).tiny)
        return (jnp.where(is_last, 0, tied), hit, called, jnp.where(is_last, settled, total)), None

    start = (jnp.zeros((), weight.dtype),) * 4
    # from the top a group of equals ends where, from below, it began
    (_, hit, _, total), _ = lax.scan(descend, start, (fresh, true, jnp.asarray(weight)[order]), reverse=True)
    return total / hit
