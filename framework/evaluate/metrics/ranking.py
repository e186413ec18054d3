"""Scores of how well probabilities rank: sorted once, then one pass up the ranking for each weighting.

Rankings compare queries of one fold alone. Each fold has a model of its own, and leaving a subject out moves the
intercept of that model against it: ranked across folds, forecasts of random labels have an AUC far below 1/2.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from framework.evaluate.metrics.base import Metric
from framework.types import Arr

# order; is its score new; its class; is its fold new, or None where there is one fold
Ranking = tuple[Int[Array, " q"], Bool[Array, " q"], Int[Array, " q"], Bool[Array, " q"] | None]


@dataclass(frozen=True)
class Ranks(Metric):
    """A metric of rankings within folds; with `positive` that of P(level >= positive), else a mean over the levels."""

    positive: int | None = None
    better = "higher"
    bounds = 0.0, 1.0

    def prepare(self, prediction: Float[Arr, "q p"], truth: Float[Arr, " q"]) -> PyTree:
        return self._ranked(prediction, truth, None)

    def prepare_within(self, prediction: Float[Arr, "q p"], truth: Float[Arr, " q"], fold: Int[Arr, " q"]) -> PyTree:
        return self._ranked(prediction, truth, jnp.asarray(fold))

    def _ranked(self, prediction: Float[Arr, "q p"], truth: Float[Arr, " q"], fold: Array | None) -> PyTree:
        said, came = split_at(self.positive, jnp.asarray(prediction), jnp.asarray(truth))
        levels = range(said.shape[1]) if self.positive is None else (1,)
        return tuple(ranking(said[:, level], came, level, fold) for level in levels)

    def comparable(self, truth: Shaped[np.ndarray, "q ..."], fold: Int[np.ndarray, " q"]) -> int:
        counts = self._counts(truth, fold)
        return sum(int(counts[:, i] @ counts[:, j]) for i, j in combinations(range(counts.shape[1]), 2))

    def unestimable(
        self, truth: Shaped[np.ndarray, "q ..."], fold: Int[np.ndarray, " q"], levels: Sequence[str]
    ) -> str | None:
        names = levels if self.positive is None else _of_event(self.positive, levels)
        counts = self._counts(truth, fold, len(names))
        if (counts.sum(0) > 0).sum() < 2:
            return "all outcomes are alike"
        for apart, one, other in self._contrasts(counts, names):
            for name, some in zip(apart, (one, other), strict=True):
                if not some.any():
                    return f"no outcome is {name}"
            if not one @ other:
                return f"no fold has both outcomes, {apart[0]} and {apart[1]}"
        return None

    def _counts(
        self, truth: Shaped[np.ndarray, "q ..."], fold: Int[np.ndarray, " q"], classes: int = 0
    ) -> Int[np.ndarray, "f c"]:
        """How many queries of each class each fold has."""
        came = np.asarray(truth).astype(int) if self.positive is None else (np.asarray(truth) >= self.positive) * 1
        table = np.zeros((int(np.max(fold, initial=-1)) + 1, max(classes, int(came.max(initial=0)) + 1)), int)
        np.add.at(table, (np.asarray(fold), came), 1)
        return table

    def _contrasts(
        self, counts: Int[np.ndarray, "f c"], names: Sequence[str]
    ) -> Iterator[tuple[tuple[str, str], Int[np.ndarray, " f"], Int[np.ndarray, " f"]]]:
        """Each two classes that the score sets against each other: their names, and their queries in each fold."""
        for i, j in combinations(range(len(names)), 2):
            yield (names[i], names[j]), counts[:, i], counts[:, j]


def _of_event(positive: int, levels: Sequence[str]) -> tuple[str, str]:
    """The rest and the event in words."""
    rest = levels[0] if positive == 1 else f"below {levels[positive]}"
    return rest, levels[positive] if positive == len(levels) - 1 else f"{levels[positive]} or beyond"


@dataclass(frozen=True)
class AUC(Ranks):
    """Area under the ROC curve of P(level >= positive), ties counting half; NaN unless a fold has both outcomes.

    The chance that of two queries of a fold, all such pairs counting alike, the one with the event scores above.
    """

    positive: int | None = 1
    title = "AUC"

    def score(self, prepared: PyTree, weight: Float[Arr, " q"]) -> Float[Array, ""]:
        return areas(prepared[0], weight, 1, 2)[0]


@dataclass(frozen=True)
class MAUC(Ranks):
    """Mean over pairs of classes of the AUC between them, with mid-ranks; NaN unless each pair meets in a fold.

    Hand & Till 2001, Eq. 7: A(i|j) ranks the members of i and j by the probability of i.
    """

    title = "mAUC"

    def score(self, prepared: PyTree, weight: Float[Arr, " q"]) -> Float[Array, ""]:
        classes = len(prepared)
        between = [areas(one, weight, level, classes) for level, one in enumerate(prepared)]
        return jnp.mean(jnp.stack(between))


@dataclass(frozen=True)
class AUPRC(Ranks):
    """Average precision: the mean over events of the precision at their score, within their fold.

    No line is drawn between thresholds, which would flatter (Davis & Goadrich 2006). Without `positive` the mean over
    the levels, each against the rest. A fold without events, or of events alone, ranks nothing and does not count; NaN
    where no other is left. By chance alone it is above the share of events, the more so the smaller the folds.
    """

    title = "AUPRC"

    def _contrasts(
        self, counts: Int[np.ndarray, "f c"], names: Sequence[str]
    ) -> Iterator[tuple[tuple[str, str], Int[np.ndarray, " f"], Int[np.ndarray, " f"]]]:
        if self.positive is not None:
            yield from super()._contrasts(counts, names)
            return
        for k, name in enumerate(names):
            yield (name, f"not {name}"), counts[:, k], counts.sum(1) - counts[:, k]

    def score(self, prepared: PyTree, weight: Float[Arr, " q"]) -> Float[Array, ""]:
        return self._mean(prepared, weight, among_others=False)

    def score_resample(self, prepared: PyTree, weight: Float[Arr, " q"]) -> Float[Array, ""]:
        # copies of an event would find each other at their score, the more so the smaller the fold
        return self._mean(prepared, weight, among_others=True)

    def _mean(self, prepared: PyTree, weight: Float[Arr, " q"], among_others: bool) -> Float[Array, ""]:
        levels = range(len(prepared)) if self.positive is None else (1,)
        each = [average_precision(one, weight, k, among_others) for one, k in zip(prepared, levels, strict=True)]
        return jnp.mean(jnp.stack(each))


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
    sum is the mid-rank. Where a fold opens the pairs of the last one are counted and it begins again. The state is one
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


def average_precision(
    one: Ranking, weight: Float[Arr, " q"], level: int, among_others: bool = False
) -> Float[Array, ""]:
    """The mean over members of `level` of the precision at their score in their fold, equals among the called.

    A fold counts where it has both members and others. With `among_others` a query that weighs more than 1 is still
    one member among the others' weights, not several that rank each other.
    """
    order, fresh, true, opens = one
    weight = jnp.asarray(weight)[order]
    event = jnp.where(true == level, weight, 0)
    place = jnp.zeros(len(order), int) if opens is None else jnp.cumsum(opens) - 1
    folds = 1 if opens is None else len(order)
    hits, called = (jax.ops.segment_sum(x, place, folds)[place] for x in (event, weight))

    def climb(carry, row):
        (hit, all_of_them, below_hit, below_all, total, events), (is_fresh, opening, event, weight, hits, called) = (
            carry,
            row,
        )
        if opening is not None:
            hit, all_of_them = (jnp.where(opening, 0, x) for x in (hit, all_of_them))
        below_hit, below_all = jnp.where(is_fresh, hit, below_hit), jnp.where(is_fresh, all_of_them, below_all)
        excess = jnp.where(event > 0, event - 1, 0) if among_others else 0
        precision = (hits - below_hit - excess) / jnp.where(event > 0, called - below_all - excess, 1)
        counted = jnp.where((hits > 0) & (called > hits), event, 0)
        totals = total + counted * precision, events + counted
        return (hit + event, all_of_them + weight, below_hit, below_all, *totals), None

    start = (jnp.zeros((), weight.dtype),) * 6
    (*_, total, events), _ = lax.scan(climb, start, (fresh, opens, event, weight, hits, called))
    return total / events
