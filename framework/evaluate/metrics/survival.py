"""Scores of survival curves at given horizons; a truth is (lo, hi], in years after the origin.

An event counts at the middle of its interval (`right_censored`). Those who were followed for too short a time are made
up for by weighting the others by 1/G, G the chance of being followed so long (IPCW), estimated from the very queries
that are scored, with their weights. A horizon beyond which no subject was followed is left out.

Rankings compare queries of one fold alone. Each fold has a model of its own, and the subjects left out move its curve:
with many early events in a fold the others' curve is higher, so that pooled folds rank even the marginal curve below
1/2.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from framework.baselines.survival.cox import Survival
from framework.baselines.survival.kaplan_meier import kaplan_meier, right_censored
from framework.evaluate.metrics.base import Metric
from framework.evaluate.metrics.ranking import Ranking, areas, ranking
from framework.types import Arr

BLOCK = 64  # rows that are compared with all others at once


@dataclass(frozen=True)
class SurvivalMetric(Metric):
    """A score of the probabilities (q p) that the event has not come by each of the `horizons`, ascending."""

    horizons: tuple[float, ...] = (1.0,)


class Ranked(SurvivalMetric):
    """One that compares queries with each other."""

    bounds = 0.0, 1.0
    lost_outlive: ClassVar[bool] = False  # whether someone lost at the very time of an event counts as outliving it

    def prepare(self, prediction: Float[Arr, "q p"], truth: Float[Arr, "q 2"]) -> PyTree:
        return self.prepare_within(prediction, truth, jnp.zeros(len(truth), int))

    @abstractmethod
    def begins(self, time: Float[np.ndarray, " q"], event: Bool[np.ndarray, " q"]) -> Float[np.ndarray, " q"]:
        """The time beyond which followed queries are compared with a query whose event was seen; NaN where none is."""

    def comparable(self, truth: Shaped[np.ndarray, "q ..."], fold: Int[np.ndarray, " q"]) -> int:
        survival = truths(truth)
        time, event = np.asarray(survival.time), np.asarray(survival.event)
        begins, found = self.begins(time, event), 0
        for k in np.unique(fold):
            own, lost = np.sort(time[fold == k]), np.sort(time[(fold == k) & ~event])
            first = begins[(fold == k) & ~np.isnan(begins)]
            found += sum(len(own) - np.searchsorted(own, first, "right"))
            if self.lost_outlive:
                found += sum(np.searchsorted(lost, first, "right") - np.searchsorted(lost, first, "left"))
        return int(found)

    def unestimable(
        self, truth: Shaped[np.ndarray, "q ..."], fold: Int[np.ndarray, " q"], levels: Sequence[str]
    ) -> str | None:
        if not np.asarray(truths(truth).event).any():
            return "no event was observed"
        return None if self.comparable(truth, fold) else "in no fold was anybody followed beyond another's event"


@dataclass(frozen=True)
class Concordance(Ranked):
    """The chance that of two queries the one whose event comes first was given the higher risk, ties counting half.

    The risk is the mean chance of the event over the horizons. NaN where no two can be compared.
    """

    better = "higher"
    lost_outlive = True

    def prepare_within(self, prediction: Float[Arr, "q p"], truth: Float[Arr, "q 2"], fold: Int[Arr, " q"]) -> PyTree:
        return truths(truth), -jnp.mean(jnp.asarray(prediction), axis=1), jnp.asarray(fold)

    @abstractmethod
    def counts(self, survival: Survival, weight: Float[Arr, " q"]) -> Float[Array, " q"]:
        """The weight of a pair, given by the one of its two whose event comes first."""

    def begins(self, time: Float[np.ndarray, " q"], event: Bool[np.ndarray, " q"]) -> Float[np.ndarray, " q"]:
        return np.where(event, time, np.nan)

    def score(self, prepared: PyTree, weight: Float[Arr, " q"]) -> Float[Array, ""]:
        survival, risk, fold = prepared
        time, event, weight = survival.time, survival.event, jnp.asarray(weight)
        first = jnp.where(event, weight * self.counts(survival, weight), 0)

        def against(i: Array) -> tuple[Array, Array]:
            later = ((time > time[i]) | ((time == time[i]) & ~event)) & (fold == fold[i])
            lower = jnp.where(risk < risk[i], 1.0, jnp.where(risk == risk[i], 0.5, 0.0))
            pairs = jnp.stack([later * lower, later.astype(lower.dtype)])
            right, all_of_them = jnp.matmul(pairs, weight, precision="highest")
            return first[i] * right, first[i] * all_of_them

        right, pairs = lax.map(against, jnp.arange(len(time)), batch_size=BLOCK)
        return jnp.sum(right) / jnp.sum(pairs)


@dataclass(frozen=True)
class Harrell(Concordance):
    """Harrell's C: every pair of which the first event was seen counts alike (Harrell, Lee & Mark 1996)."""

    title = "C-index (Harrell)"

    def counts(self, survival: Survival, weight: Float[Arr, " q"]) -> Float[Array, " q"]:
        return jnp.ones_like(survival.time)


@dataclass(frozen=True)
class Uno(Concordance):
    """Uno's C up to the last horizon: pairs count 1/G² at the first event, so that it does not depend on how long
    subjects were followed (Uno et al. 2011, Eq. 6).
    """

    title = "C-index (Uno)"

    def begins(self, time: Float[np.ndarray, " q"], event: Bool[np.ndarray, " q"]) -> Float[np.ndarray, " q"]:
        return np.where(event & (time < self.horizons[-1]), time, np.nan)

    def counts(self, survival: Survival, weight: Float[Arr, " q"]) -> Float[Array, " q"]:
        return jnp.where(survival.time < self.horizons[-1], ipcw(survival, weight, survival.time) ** 2, 0)


@dataclass(frozen=True)
class IntegratedBrier(SurvivalMetric):
    """The mean over time, from the first horizon to the last, of the squared error of survival.

    Graf et al. (1999), Eqs. 10 and 12, by trapezoids between the horizons; with one horizon the Brier score there.
    """

    title = "integrated Brier"
    undefined = "no subject was followed beyond the first horizon"
    better = "lower"

    def prepare(self, prediction: Float[Arr, "q p"], truth: Float[Arr, "q 2"]) -> PyTree:
        return truths(truth), jnp.asarray(prediction)

    def score(self, prepared: PyTree, weight: Float[Arr, " q"]) -> Float[Array, ""]:
        survival, forecast = prepared
        weight, times = jnp.asarray(weight), jnp.asarray(self.horizons)
        each = jnp.matmul(weight, brier(survival, forecast, times, weight), precision="highest") / jnp.sum(weight)
        followed = jnp.matmul(weight, survival.time[:, None] > times, precision="highest") > 0
        years = jnp.where(followed[1:], jnp.diff(times), 0)
        whole = jnp.sum(years * (each[1:] + each[:-1]) / 2) / jnp.where(years.sum() > 0, years.sum(), 1)
        return jnp.where(followed[0], jnp.where(years.sum() > 0, whole, each[0]), jnp.nan)


@dataclass(frozen=True)
class DynamicAUC(Ranked):
    """The chance that one whose event has come by a horizon was given a higher risk than one whose has not, cases
    weighted by 1/G (Uno et al. 2007); horizons count by how many events come between them (Lambert & Chevret 2016).
    """

    title = "AUC(t)"
    better = "higher"

    def begins(self, time: Float[np.ndarray, " q"], event: Bool[np.ndarray, " q"]) -> Float[np.ndarray, " q"]:
        ends = np.append(np.asarray(self.horizons, time.dtype), np.nan)
        return np.where(event, ends[np.searchsorted(ends[:-1], time)], np.nan)  # the first horizon not before the event

    def prepare_within(self, prediction: Float[Arr, "q p"], truth: Float[Arr, "q 2"], fold: Int[Arr, " q"]) -> PyTree:
        survival, risk = truths(truth), -jnp.asarray(prediction)
        lost = 2  # a third class: what was not followed so long is in no pair

        def at(k: int, time: float) -> Ranking:
            true = jnp.where(survival.time > time, 0, jnp.where(survival.event, 1, lost))
            return ranking(risk[:, k], true, 1, jnp.asarray(fold))

        return survival, [at(k, time) for k, time in enumerate(self.horizons)]

    def score(self, prepared: PyTree, weight: Float[Arr, " q"]) -> Float[Array, ""]:
        survival, rankings = prepared
        weight, times = jnp.asarray(weight), jnp.asarray(self.horizons)
        cases = weight * ipcw(survival, weight, survival.time)
        each = [
            areas(one, jnp.where(survival.time > time, weight, cases), 1, 3)[0]
            for one, time in zip(rankings, self.horizons, strict=True)
        ]
        each = jnp.stack(each)
        share = -jnp.diff(kaplan_meier(survival, weight).at(times), prepend=1)
        share = jnp.where(jnp.isnan(each), 0, share)
        return jnp.sum(jnp.where(share > 0, share * each, 0)) / jnp.sum(share)


def truths(truth: Float[Arr, "q 2"]) -> Survival:
    """When each event came or its query was lost."""
    lo, hi = jnp.asarray(truth).T
    return right_censored(lo, hi)


def ipcw(survival: Survival, weight: Float[Arr, " q"], times: Float[Arr, "..."]) -> Float[Array, "..."]:
    """One over the chance of being followed beyond each time; 0 where none was."""
    followed = kaplan_meier(survival, weight, censoring=True).at(times)
    return jnp.where(followed > 0, 1 / jnp.where(followed > 0, followed, 1), 0)


def brier(
    survival: Survival, forecast: Float[Arr, "q p"], times: Float[Arr, " p"], weight: Float[Arr, " q"]
) -> Float[Array, "q p"]:
    """The squared error of each query at each time, weighted for those who were not followed so long."""
    time = survival.time[:, None]
    came = survival.event[:, None] & (time <= times)
    early, late = ipcw(survival, weight, survival.time)[:, None], ipcw(survival, weight, times)
    return jnp.where(came, early * forecast**2, 0) + jnp.where(time > times, late * (1 - forecast) ** 2, 0)
