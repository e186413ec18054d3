"""Scores of which class was called: functions of the confusion matrix, so of weighted means."""

from abc import abstractmethod
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from framework.evaluate.metrics.base import Mean
from framework.evaluate.metrics.ranking import split_at


@dataclass(frozen=True)
class Confusion(Mean):
    """A function of the shares of (true, called) pairs; the most probable class is called, the first of equals.

    With `positive` the classes are the rest and the event, and a rate is the event's; without, it is the mean over the
    classes that occur among the truths.
    """

    positive: int | None = None
    better = "higher"
    bounds = 0.0, 1.0

    @abstractmethod
    def of(self, confusion: Float[Array, "c c"]) -> Float[Array, ""]: ...

    def terms(self, prediction: Float[Array, "q p"], truth: Float[Array, " q"]) -> Float[Array, "q k"]:
        said, came = split_at(self.positive, prediction, truth)
        classes = said.shape[1]
        return jax.nn.one_hot(came * classes + jnp.argmax(said, axis=1), classes**2)

    def finish(self, means: Float[Array, " k"]) -> Float[Array, ""]:
        classes = round(means.size**0.5)
        return jnp.where(jnp.isnan(means).any(), jnp.nan, self.of(means.reshape(classes, classes)))

    def over(self, rate: Float[Array, " c"], occurs: Float[Array, " c"]) -> Float[Array, ""]:
        """The event's rate, or the mean over the classes that occur; NaN where that is nothing."""
        rate = jnp.where(occurs > 0, rate, jnp.nan)
        return jnp.nanmean(rate) if self.positive is None else rate[1]


def hits(confusion: Float[Array, "c c"]) -> Float[Array, " c"]:
    """Share of each class that was called and true."""
    return jnp.diag(confusion)


def others(confusion: Float[Array, "c c"]) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Share of what is not of each class, and the part of it that was not called so; sums without a difference."""
    apart = ~jnp.eye(len(confusion), dtype=bool)
    rest = jnp.where(apart, confusion.sum(axis=1)[None], 0).sum(axis=1)
    refused = jnp.where(apart[:, :, None] & apart[:, None, :], confusion[None], 0).sum(axis=(1, 2))
    return rest, refused


@dataclass(frozen=True)
class Accuracy(Confusion):
    """Share of truths that were called."""

    title = "accuracy"

    def of(self, confusion: Float[Array, "c c"]) -> Float[Array, ""]:
        return hits(confusion).sum()


@dataclass(frozen=True)
class Precision(Confusion):
    """Share of the called that are true; 0 for a class that was never called."""

    title = "precision"

    def of(self, confusion: Float[Array, "c c"]) -> Float[Array, ""]:
        called = confusion.sum(axis=0)
        return self.over(jnp.where(called > 0, hits(confusion) / called, 0), confusion.sum(axis=1))


@dataclass(frozen=True)
class Recall(Confusion):
    """Share of the true that were called: the sensitivity."""

    title = "recall"

    def of(self, confusion: Float[Array, "c c"]) -> Float[Array, ""]:
        true = confusion.sum(axis=1)
        return self.over(hits(confusion) / true, true)


@dataclass(frozen=True)
class Specificity(Confusion):
    """Share of what is not of a class that was not called so."""

    title = "specificity"

    def of(self, confusion: Float[Array, "c c"]) -> Float[Array, ""]:
        rest, refused = others(confusion)
        return self.over(refused / rest, rest)


@dataclass(frozen=True)
class F1(Confusion):
    """Harmonic mean of precision and recall."""

    title = "F1"

    def of(self, confusion: Float[Array, "c c"]) -> Float[Array, ""]:
        true = confusion.sum(axis=1)
        return self.over(2 * hits(confusion) / (true + confusion.sum(axis=0)), true)


@dataclass(frozen=True)
class BalancedAccuracy(Confusion):
    """Mean of the recalls of the classes that occur; with `positive`, of sensitivity and specificity."""

    title = "balanced accuracy"

    def of(self, confusion: Float[Array, "c c"]) -> Float[Array, ""]:
        true = confusion.sum(axis=1)
        return jnp.nanmean(jnp.where(true > 0, hits(confusion) / true, jnp.nan))


@dataclass(frozen=True)
class BCA(Confusion):
    """Balanced classification accuracy: the mean over classes of (sensitivity + specificity)/2.

    A rate whose denominator is zero counts ½, as in the TADPOLE challenge (Marinescu et al. 2018). Not the balanced
    accuracy that is the mean of the sensitivities.
    """

    title = "BCA"

    def of(self, confusion: Float[Array, "c c"]) -> Float[Array, ""]:
        true, (rest, refused) = confusion.sum(axis=1), others(confusion)
        rate = jnp.where(true > 0, hits(confusion) / true, 0.5) + jnp.where(rest > 0, refused / rest, 0.5)
        return jnp.mean(rate) / 2


@dataclass(frozen=True)
class Matthews(Confusion):
    """Matthews' correlation of truths and calls, of any number of classes (Gorodkin 2004, Eq. 8).

    0 where one class was always called, NaN where one was always true.
    """

    title = "Matthews"
    bounds = -1.0, 1.0
    undefined = "all outcomes are alike"

    def of(self, confusion: Float[Array, "c c"]) -> Float[Array, ""]:
        true, called = confusion.sum(axis=1), confusion.sum(axis=0)
        apart = ~jnp.eye(len(confusion), dtype=bool)
        together = (
            jnp.where(apart, jnp.outer(true, true), 0).sum(),
            jnp.where(apart, jnp.outer(called, called), 0).sum(),
        )
        joint = hits(confusion).sum() - jnp.dot(true, called)
        related = joint / jnp.sqrt(together[0] * together[1])
        return jnp.where(together[0] > 0, jnp.where(together[1] > 0, related, 0), jnp.nan)
