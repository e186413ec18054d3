"""Scores of class probabilities; truths are level indices."""

from dataclasses import dataclass
from itertools import permutations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from framework.evaluate.metric import Mean, Metric
from framework.types import Arr

CLIP = 1e-6  # the least probability that log loss believes in: a certain error costs 13.8, not infinity


@dataclass(frozen=True)
class AUC(Metric):
    """Area under the ROC curve of P(level >= positive), ties counting half; NaN unless both outcomes occur."""

    positive: int = 1
    title = "AUC"
    better = "higher"

    def prepare(self, prediction: Float[Arr, "q p"], truth: Float[Arr, " q"]) -> PyTree:
        order, fresh = ranking(jnp.sum(jnp.asarray(prediction)[:, self.positive :], axis=1))
        return order, fresh, (jnp.asarray(truth) >= self.positive)[order]

    def score(self, prepared: PyTree, weight: Float[Arr, " q"]) -> Float[Array, ""]:
        order, fresh, event = prepared
        ascending = weight[order]
        return area(fresh, jnp.where(event, ascending, 0), jnp.where(event, 0, ascending))


@dataclass(frozen=True)
class MAUC(Metric):
    """Mean over pairs of classes of the AUC between them, with mid-ranks; NaN unless every class occurs.

    Hand & Till 2001, Eq. 7: A(i|j) ranks the members of i and j by the probability of i.
    """

    title = "mAUC"
    better = "higher"

    def prepare(self, prediction: Float[Arr, "q p"], truth: Float[Arr, " q"]) -> PyTree:
        orders, fresh = jax.vmap(ranking)(jnp.asarray(prediction).T)
        return orders, fresh, jnp.asarray(truth).astype(int)[orders]

    def score(self, prepared: PyTree, weight: Float[Arr, " q"]) -> Float[Array, ""]:
        orders, fresh, true = prepared

        def between(pair: Int[Array, "2"]) -> Float[Array, ""]:
            i, j = pair
            ascending = weight[orders[i]]
            return area(fresh[i], jnp.where(true[i] == i, ascending, 0), jnp.where(true[i] == j, ascending, 0))

        return jnp.mean(lax.map(between, jnp.array(list(permutations(range(len(orders)), 2)))))


@dataclass(frozen=True)
class BCA(Mean):
    """Balanced classification accuracy: the mean over classes of (sensitivity + specificity)/2.

    A rate whose denominator is zero counts ½, as in the TADPOLE challenge (Marinescu et al. 2018). Not the balanced
    accuracy that is the mean of the sensitivities.
    """

    title = "BCA"
    better = "higher"

    def terms(self, prediction: Float[Array, "q p"], truth: Float[Array, " q"]) -> Float[Array, "q k"]:
        classes = prediction.shape[1]
        cell = truth.astype(int) * classes + jnp.argmax(prediction, axis=1)
        return jax.nn.one_hot(cell, classes**2)

    def finish(self, means: Float[Array, " k"]) -> Float[Array, ""]:
        classes = round(means.size**0.5)
        confusion = means.reshape(classes, classes)
        hit, true, called = jnp.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
        total = confusion.sum()
        rest = jnp.sum(jnp.where(jnp.eye(classes, dtype=bool), 0, true[None]), axis=1)
        refused = rest - (called - hit)
        rate = jnp.where(true > 0, hit / true, 0.5) + jnp.where(rest > 0, refused / rest, 0.5)
        return jnp.where(total > 0, jnp.mean(rate) / 2, jnp.nan)


@dataclass(frozen=True)
class Accuracy(Mean):
    """Share of truths that are the most probable class (the first of equals)."""

    title = "accuracy"
    better = "higher"

    def terms(self, prediction: Float[Array, "q p"], truth: Float[Array, " q"]) -> Float[Array, "q k"]:
        return (jnp.argmax(prediction, axis=1) == truth).astype(jnp.float32)[:, None]


@dataclass(frozen=True)
class LogLoss(Mean):
    """Mean of -log of the probability given to the truth (nats), which is clipped at 1e-6 from below."""

    title = "log loss"
    better = "lower"

    def terms(self, prediction: Float[Array, "q p"], truth: Float[Array, " q"]) -> Float[Array, "q k"]:
        given = jnp.take_along_axis(prediction, truth.astype(int)[:, None], axis=1)
        return -jnp.log(jnp.maximum(given, CLIP))


@dataclass(frozen=True)
class Brier(Mean):
    """Mean squared distance between the probabilities and the truth, summed over all classes (0 best, 2 worst)."""

    title = "Brier"
    better = "lower"

    def terms(self, prediction: Float[Array, "q p"], truth: Float[Array, " q"]) -> Float[Array, "q k"]:
        came = jax.nn.one_hot(truth.astype(int), prediction.shape[1])
        return jnp.sum((prediction - came) ** 2, axis=1, keepdims=True)


def ranking(score: Float[Arr, " q"]) -> tuple[Int[Array, " q"], Bool[Array, " q"]]:
    """The order of ascending scores, and in that order whether each differs from the one before."""
    order = jnp.argsort(score)
    ascending = score[order]
    return order, jnp.concatenate([jnp.ones(1, bool), ascending[1:] != ascending[:-1]])


def area(fresh: Bool[Array, " q"], event: Float[Array, " q"], rest: Float[Array, " q"]) -> Float[Array, ""]:
    """The weighted chance that an event's score exceeds another's, ties counting half: one pass up the ranking."""

    def climb(carry, row):
        below, tied_event, tied_rest, total = carry
        is_fresh, event, rest = row
        settled = (below + tied_rest, 0.0, 0.0, total + tied_event * (below + tied_rest / 2))
        now = jax.tree.map(lambda new, old: jnp.where(is_fresh, new, old), settled, carry)
        return (now[0], now[1] + event, now[2] + rest, now[3]), None

    start = (jnp.zeros((), event.dtype),) * 4
    (below, tied_event, tied_rest, total), _ = lax.scan(climb, start, (fresh, event, rest))
    return (total + tied_event * (below + tied_rest / 2)) / (jnp.sum(event) * jnp.sum(rest))
