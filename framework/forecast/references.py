"""The reference forecasts of every table: the last visit carried forward, with or without a slope."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import assert_never

import numpy as np
from jaxtyping import Float

from framework.baselines.survival.kaplan_meier import kaplan_meier, right_censored
from framework.data.queries.examples import Examples
from framework.data.splits.split import Split
from framework.errors import UserError
from framework.forecast.base import Fitted, Forecaster, Part
from framework.forecast.fit_request import FitRequest
from framework.history import at_origin, last_observed
from framework.types import (
    LEVELS,
    MEDIAN,
    Answer,
    Categorical,
    Classes,
    Event,
    Forecast,
    Interval,
    Layout,
    Measured,
    Number,
    Query,
    SurvivalForecast,
    Target,
    Truth,
    Values,
    Visits,
)

SMEAR = 0.1  # the share of its neighbour's probability that a level gets, the same in every fold


@dataclass(frozen=True)
class Carried:
    """Parameters of one target: its yearly change, its median one, the quantiles around the latter, and the forecast
    for a subject never observed (quantiles, or class frequencies).
    """

    slope: float
    median_slope: float
    spread: Sequence[float]
    prior: Sequence[float]


@dataclass(frozen=True)
class Expected:
    """Parameters of an event: its survival at each of some times, constant after the last; without times, its rate a
    year.
    """

    times: Sequence[float]
    left: Sequence[float]
    rate: float

    def survival(self, ahead: Float[np.ndarray, "b q"]) -> Float[np.ndarray, "b q"]:
        if not self.times:
            return np.exp(-self.rate * ahead)
        place = np.searchsorted(self.times, ahead.astype(np.float32), side="right")
        return np.concatenate([[1.0], self.left])[place]


@dataclass(frozen=True)
class LastVisit(Forecaster):
    """Tomorrow as today, plus `slope` times the years since where `trend` is on (then fitted on training pairs).

    It reads the targets' own history even where that is hidden from other models. That is the point forecast; quantiles
    are those of training errors around the last value plus the median yearly change, so that half of the truths lie
    below their median. Classes get a fixed smear to the neighbouring levels. An event has one forecast for all
    subjects: the Kaplan-Meier curve over the training subjects' origins, or, where `trend` is on, a constant rate.
    """

    trend: bool

    def fit_many(self, request: FitRequest) -> list[Fitted]:
        examples = request.examples
        layout = _without_scans(examples.layout)
        return [
            FittedLastVisit(
                layout,
                {
                    t.name: self._expect(examples, t, split)
                    if isinstance(t, Event)
                    else self._learn(examples, t, split)
                    for t in layout.targets
                },
            )
            for split in request.splits
        ]

    def parts(self) -> Sequence[Part]:
        return [Part("parameters", ("train",))]

    def load(self, path: Path, layout: Layout) -> Fitted:
        file = path / "carried.json"
        if not file.exists():
            raise UserError(f"no fitted model at {file}; run the forecast first, or name a run that finished")
        kind = {target.name: Expected if isinstance(target, Event) else Carried for target in layout.targets}
        learnt = {name: kind[name](**parts) for name, parts in json.loads(file.read_text()).items()}
        return FittedLastVisit(_without_scans(layout), learnt)

    def _expect(self, examples: Examples, target: Event, split: Split) -> Expected:
        truth = examples.train_queries.truth[target.name]
        assert isinstance(truth, Interval)
        known = truth.observed & split.train[:, None]
        survival = right_censored(truth.lo[known], truth.hi[known])
        years = float(survival.time.sum())
        rate = float(survival.event.sum()) / years if years > 0 else 0.0  # without follow-up there is no event
        if self.trend or not known.any():
            return Expected([], [], rate)
        curve = kaplan_meier(survival, np.ones(int(known.sum())))
        last = np.r_[np.diff(curve.time) > 0, True]  # where several came at once, the last gives the curve
        return Expected(np.asarray(curve.time)[last].tolist(), np.asarray(curve.left)[last].tolist(), rate)

    def _learn(self, examples: Examples, target: Measured, split: Split) -> Carried:
        cohort, queries, resolution = examples.cohort, examples.eval_queries, examples.layout.resolution
        seen = cohort.values[split.train, :, target.index][cohort.observed[split.train, :, target.index]]
        if isinstance(target, Categorical):
            count = np.bincount(seen.astype(int), minlength=len(target.levels)) + 1.0
            return Carried(0.0, 0.0, [], list(count / count.sum()))
        value, has, when = _last(
            target, cohort.values, cohort.observed & cohort.valid[..., None], cohort.times, queries.query
        )
        truth = queries.truth[target.name]
        assert isinstance(truth, Truth)
        pairs = (truth.observed & has)[split.train]
        change, years = (truth.value - value)[split.train][pairs], (queries.query.time - when)[split.train][pairs]
        # years that do not amount to the resolution tell no slope: it vanishes with them
        slope = float((change * years).sum() / max((years**2).sum(), resolution**2, 1e-12)) if self.trend else 0.0
        median = _median_slope(np.asarray(change), np.asarray(years), resolution)
        prior = np.quantile(seen, LEVELS) if len(seen) else np.zeros(len(LEVELS))
        around = _around(np.asarray(change - median * years))
        return Carried(slope, median, [float(x) for x in around], [float(x) for x in prior])


@dataclass(frozen=True)
class FittedLastVisit(Fitted):
    """Fitted parameters by target."""

    layout: Layout
    learnt: Mapping[str, Carried | Expected]

    def predict(self, history: Visits, query: Query) -> Forecast:
        return {target.name: self._one(target, history, query) for target in self.layout.targets}

    def save(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        (path / "carried.json").write_text(json.dumps({name: vars(parts) for name, parts in self.learnt.items()}))

    def _one(self, target: Target, history: Visits, query: Query) -> Answer:
        learnt = self.learnt[target.name]
        if isinstance(target, Event):
            assert isinstance(learnt, Expected)
            ahead = np.asarray(query.time) - np.asarray(at_origin(history.times, query))
            return SurvivalForecast(learnt.survival(np.maximum(ahead, 0)))
        assert isinstance(learnt, Carried)
        observed = np.asarray(history.observed) & np.asarray(history.valid)[..., None]
        value, has, when = _last(target, np.asarray(history.values), observed, np.asarray(history.times), query)
        prior = np.asarray(learnt.prior)
        match target:
            case Number():
                years = np.asarray(query.time) - when
                centre = value + learnt.median_slope * years
                return Values(
                    np.where(has[..., None], centre[..., None] + np.asarray(learnt.spread), prior),
                    np.where(has, value + learnt.slope * years, prior[MEDIAN]),
                )
            case Categorical():
                distance = np.abs(np.arange(len(target.levels)) - value[..., None])
                share = SMEAR ** (distance if target.ordered else np.minimum(distance, 1))
                return Classes(np.where(has[..., None], share / share.sum(-1, keepdims=True), prior))
            case _:
                assert_never(target)


def _last(
    target: Measured,
    values: Float[np.ndarray, "b t f"],
    observed: np.ndarray,
    times: Float[np.ndarray, "b t"],
    query: Query,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The target's last observation before each query: value, whether there is one, when; (b, q) each.

    Strictly before: queried about a visit, the forecast does not read the answer from it.
    """
    column = slice(target.index, target.index + 1)
    series = last_observed(values[..., column], observed[..., column], times)

    def at(visit: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(at_origin(part, replace(query, origin=visit)))[..., 0] for part in series]

    origin = np.asarray(query.origin)
    value, has, when = at(origin)
    now = has & (when >= np.asarray(query.time, when.dtype))  # 0.7 years in float32 lies before 0.7 in float64
    earlier = at(np.maximum(origin - 1, 0))
    earlier[1] = earlier[1] & (origin > 0)
    value, has, when = (np.where(now, new, old) for new, old in zip(earlier, (value, has, when), strict=True))
    return value, has, when


def _median_slope(change: Float[np.ndarray, " n"], years: Float[np.ndarray, " n"], resolution: float) -> float:
    """The yearly change with as much absolute error above as below: the median of rates, weighted by their years."""
    later = (years > 0) & (years >= resolution)  # shorter ones tell no rate
    rate, weight = change[later] / years[later], years[later]
    if not len(rate):
        return 0.0
    order = np.argsort(rate, kind="stable")
    half = np.searchsorted(np.cumsum(weight[order]), weight.sum() / 2)
    return float(rate[order][half])


def _around(errors: Float[np.ndarray, " n"]) -> Float[np.ndarray, " l"]:
    """Quantiles of the errors, the median held at 0: the forecast itself stays the last visit."""
    if not len(errors):
        return np.zeros(len(LEVELS))
    levels = np.asarray(LEVELS)
    quantiles = np.quantile(errors, levels)
    return np.where(levels < 0.5, np.minimum(quantiles, 0), np.where(levels > 0.5, np.maximum(quantiles, 0), 0))


def _without_scans(layout: Layout) -> Layout:
    return replace(layout, modalities=(), grids=())
