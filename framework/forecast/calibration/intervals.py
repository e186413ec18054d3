"""Any forecaster with predictive intervals that hold: calibrated, within bounds, never narrower beyond follow-up."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from framework.data.queries.examples import Examples
from framework.data.queries.model_scale import on_model_scale, query_on_model_scale, visits_on_model_scale
from framework.data.splits.split import Split
from framework.errors import UnwritableError, UserError
from framework.forecast.base import Fitted, Forecaster, Part, Turns
from framework.forecast.calibration.horizon import HeldOut, HorizonCalibration, joined
from framework.forecast.fit_request import FitRequest
from framework.forecast.tabular.cross_validation import Left, held_out_answers, turns
from framework.history import asked_at_origin, at_origin, exceeds
from framework.train.optimizer import TracedHyperparameters
from framework.types import MEDIAN, Answer, Arr, Forecast, Layout, Number, Query, Values, Visits

Fit = Callable[[FitRequest], Sequence[Fitted | UserError]]
FILE = "intervals.json"
LARGEST = 80.0  # logarithm beyond which a forecast on the log scale goes no further: float32 ends at 88


@dataclass(frozen=True)
class WithIntervals(Forecaster):
    """`member`, whose forecasts of numbers are made to hold.

    - It reads and forecasts the logarithm of variables with `scale: log`; forecasts are in original units again.
    - With `calibrate` quantiles are recalibrated by forecasts of training subjects that it was not fitted on
      (`HorizonCalibration`): a member has a way of its own to come by these (`Forecaster.fit_held_out`), or it is
      fitted `folds` times more, each time without another part of the training subjects. Subjects by which training is
      stopped do not calibrate. The median shifts, the member's point forecast does not where it has one.
    - Beyond the longest horizon seen in training, quantiles keep the distances from the median that they have there,
      in proportion to the horizon: what is known of the spread ends where follow-up ends.
    - Quantiles and point forecasts lie within the variable's declared bounds.
    """

    member: Forecaster
    calibrate: bool
    folds: int

    def __post_init__(self):
        if self.folds < 2:
            raise UserError(f"intervals.folds is {self.folds}; expected 2 or more, to forecast subjects left out")

    def fit_many(self, request: FitRequest) -> list[Fitted]:
        return [_or_raise(one) for one in self._fit(self.member.fit_many, request)]

    def try_many(self, request: FitRequest) -> list[Fitted | UserError]:
        return self._fit(self.member.try_many, request)

    def parts(self) -> Sequence[Part]:
        own = [Part("intervals", ("train", "validation"))] if self.calibrate else []
        return [*own, *self.member.parts()]

    def dynamic(self, layout: Layout) -> TracedHyperparameters | None:
        return self.member.dynamic(layout)

    def member_bytes(self, examples: Examples, splits: Sequence[Split]) -> int:
        fits = 1 + self.folds * (self.calibrate and not self.member.forecasts_held_out)
        return fits * self.member.member_bytes(on_model_scale(examples), splits)

    def turns(self, examples: Examples, splits: Sequence[Split]) -> Turns | None:
        return self.member.turns(on_model_scale(examples), splits)

    def load(self, path: Path, layout: Layout) -> Fitted:
        member = self.member.load(path, layout)
        facts = json.loads((path / FILE).read_text())
        calibrations = {name: HorizonCalibration.of(one) for name, one in facts["calibrations"].items()}
        return FittedIntervals(member, layout, calibrations, facts["shortfall"], facts["follow_up"])

    def _fit(self, fit: Fit, request: FitRequest) -> list[Fitted | UserError]:
        layout = request.examples.layout
        request = replace(request, examples=on_model_scale(request.examples))
        members: Sequence[Fitted | UserError]
        found: Sequence[Mapping[str, HeldOut] | UserError]
        if not self.calibrate or self.member.calibrates or not layout.numbers:
            members = fit(request)
            found = [{}] * len(request)
        elif self.member.forecasts_held_out:
            both = self.member.fit_held_out(request)
            members, found = zip(*((one, one) if isinstance(one, UserError) else one for one in both), strict=True)
        else:
            members, found = self._refitted(fit, request)
        follow_up = [request.examples.longest_horizon(split.train | split.validation) for split in request.splits]
        return [
            one if isinstance(one, UserError) else FittedIntervals(one, layout, *_calibrations(held), years)
            for one, years, held in zip(members, follow_up, found, strict=True)
        ]

    def _refitted(
        self, fit: Fit, request: FitRequest
    ) -> tuple[Sequence[Fitted | UserError], list[Mapping[str, HeldOut] | UserError]]:
        """Members, and what the same, fitted without each part of their training subjects, forecast of these.

        Where such a fit fails, why it did.
        """
        lanes = [
            (m, replace(split, train=split.train & ~out), out, jax.random.fold_in(key, 8 + place))
            for m, split, key in request.members
            for place, out in enumerate(self._outs(split, key))
        ]
        count = len(request)

        def record(row: dict) -> None:
            if row["member"] < count or "step" not in row:  # of fits that calibrate alone, only that they are done
                request.log(row)

        every = replace(
            request.at([*range(count), *(m for m, *_ in lanes)]),
            splits=[*request.splits, *(split for _, split, *_ in lanes)],
            keys=jnp.stack([*request.keys, *(key for *_, key in lanes)]),
            log=record,
        )
        try:
            fitted = fit(every)
        except UnwritableError:
            raise
        except UserError as error:  # what those left of their training is no state to go on from
            fitted = [*fit(request.within("alone")), *[error] * len(lanes)]
        found: list[Mapping[str, HeldOut] | UserError] = []
        for m in range(count):
            mine = [(one, out) for one, (owns, _, out, _) in zip(fitted[count:], lanes, strict=True) if owns == m]
            failed = [one for one, _ in mine if isinstance(one, UserError)]
            if not mine:
                failed.append(UserError("there are fewer than 2 training subjects"))
            parts = [held_out_answers(one, request.examples, out) for one, out in mine if isinstance(one, Fitted)]
            found.append(failed[0] if failed else joined(parts))
        return fitted[:count], found

    def _outs(self, split: Split, key: Key[Array, ""]) -> list[Left]:
        """Training subjects left out of each further fit."""
        return turns(split.train, self.folds, jax.random.fold_in(key, 7)) if split.train.sum() > 1 else []


@dataclass(frozen=True)
class FittedIntervals(Fitted):
    """A fitted member, the calibration of each number, what could not be calibrated and why, and the longest horizon
    (years) it was trained on.
    """

    member: Fitted
    recorded: Layout
    calibrations: Mapping[str, HorizonCalibration]
    shortfall: Sequence[str] = ()
    follow_up: float = float("inf")

    @property
    def layout(self) -> Layout:
        """The layout of the member."""
        return self.member.layout

    @property
    def cost(self):
        """The cost of the member."""
        return self.member.cost

    @property
    def chosen(self):
        return self.member.chosen

    @property
    def notes(self) -> Sequence[str]:
        return [*self.shortfall, *self.member.notes]

    def predict(self, history: Visits, query: Query) -> Forecast:
        layout = self.layout
        forecast = self._on_model_scale(history, query)
        if not layout.numbers:
            return forecast
        horizon = _horizon(history, query)
        quantiles = self._calibrated(forecast, jnp.minimum(horizon, self.follow_up))
        beyond = np.asarray(query.valid) & exceeds(np.asarray(horizon), self.follow_up)
        if self.follow_up > 0 and beyond.any():
            there = self._on_model_scale(history, _at_horizon(history, query, self.follow_up, layout))
            ends = self._calibrated(there, jnp.full(horizon.shape, self.follow_up))
            growth = jnp.asarray(horizon / self.follow_up)[..., None]
            for name, inside in quantiles.items():
                outside = _median(forecast[name]) + growth * (ends[name] - _median(there[name]))
                quantiles[name] = jnp.where(jnp.asarray(beyond)[..., None], outside, inside)
        return {**forecast, **{t.name: _in_units(t, quantiles[t.name], forecast[t.name]) for t in layout.numbers}}

    def save(self, path: Path) -> None:
        self.member.save(path)
        calibrations = {name: one.facts() for name, one in self.calibrations.items()}
        facts = {"follow_up": self.follow_up, "calibrations": calibrations, "shortfall": list(self.shortfall)}
        (path / FILE).write_text(json.dumps(facts))

    def _on_model_scale(self, history: Visits, query: Query) -> Forecast:
        layout = self.recorded
        return self.member.predict(visits_on_model_scale(history, layout), query_on_model_scale(query, layout))

    def _calibrated(self, forecast: Forecast, horizon: Float[Arr, "b q"]) -> dict[str, Float[Array, "b q l"]]:
        """The quantiles of numbers, calibrated where there is a calibration."""
        found = {}
        for name, answer in forecast.items():
            if isinstance(answer, Values):
                calibration, quantiles = self.calibrations.get(name), jnp.asarray(answer.quantiles)
                found[name] = quantiles if calibration is None else calibration.apply(quantiles, horizon)
        return found


def _or_raise(fitted: Fitted | UserError) -> Fitted:
    if isinstance(fitted, UserError):
        raise fitted
    return fitted


def _calibrations(found: Mapping[str, HeldOut] | UserError) -> tuple[dict[str, HorizonCalibration], list[str]]:
    """The calibration of each number, and of which there is none and why."""
    if isinstance(found, UserError):
        return {}, [f"intervals are not calibrated: a fit without some of the training subjects failed ({found})"]
    few = [name for name, held in found.items() if held.subjects < 2]
    shortfall = [
        f"intervals of {name} are not calibrated: {found[name].subjects} held-out subjects show it, 2 are needed"
        for name in few
    ]
    return {name: HorizonCalibration.fit(held) for name, held in found.items() if name not in few}, shortfall


def _horizon(history: Visits, query: Query) -> Float[Array, "b q"]:
    ahead = jnp.asarray(query.time) - at_origin(history.times, query)
    return jnp.maximum(jnp.where(query.valid, ahead, 0), 0)


def _at_horizon(history: Visits, query: Query, years: float, layout: Layout) -> Query:
    """The same queries so many years after their origins."""
    start = asked_at_origin(query, history.times, layout.known)
    speed = jnp.array([column.per_year or 0.0 for column in layout.known])
    return replace(start, time=start.time + years, known=start.known + speed * years)


def _median(answer: Answer) -> Float[Array, "b q 1"]:
    assert isinstance(answer, Values)  # called for numbers alone
    return jnp.asarray(answer.quantiles)[..., MEDIAN, None]


def _in_units(target: Number, quantiles: Float[Array, "b q l"], answer: Answer) -> Values:
    """In original units, within the bounds."""
    assert isinstance(answer, Values)
    fit = partial(_bounded, target)
    return Values(fit(quantiles), None if answer.point is None else fit(jnp.asarray(answer.point)))


def _bounded(target: Number, values: Array) -> Array:
    if target.scale == "log":
        values = jnp.exp(jnp.clip(values, -LARGEST, LARGEST))
    return jnp.clip(values, *target.bounds)
