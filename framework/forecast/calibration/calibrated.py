"""A forecaster whose answers are corrected on validation subjects that it has not seen."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import jax
import numpy as np
from jaxtyping import Array, Bool, Key

from framework.data.queries.examples import Examples
from framework.data.splits.split import Split
from framework.errors import UserError
from framework.forecast.base import Fitted, Forecaster, Part
from framework.forecast.calibration.correctors import Calibrator, Params
from framework.forecast.ensembles.ensemble import random_of
from framework.forecast.fit_request import FitRequest
from framework.forecast.predict import answers
from framework.train.optimizer import TracedHyperparameters
from framework.types import (
    LEVELS,
    Answer,
    Categorical,
    Classes,
    Event,
    Forecast,
    Layout,
    Number,
    Query,
    SurvivalForecast,
    Target,
    Truth,
    Values,
    Visits,
)


@dataclass(frozen=True)
class Calibrated(Forecaster):
    """`classes` corrects probabilities, `numbers` quantiles, target by target; None leaves them as they are.

    A `fraction` of the validation subjects is set aside for it; the member is fitted without them, since answers about
    subjects that it has learnt or stopped by are better than those to come.
    """

    member: Forecaster
    classes: Calibrator | None
    numbers: Calibrator | None
    fraction: float

    def __post_init__(self):
        for name, one, wanted in (("classes", self.classes, True), ("numbers", self.numbers, False)):
            if one is not None and one.of_classes != wanted:
                raise UserError(
                    f"model.{name} is {type(one).__name__}, which corrects {'numbers' if wanted else 'classes'}"
                )
        if not 0 < self.fraction <= 1:
            raise UserError(f"model.fraction is {self.fraction}; expected a fraction above 0 and up to 1")

    def fit_many(self, request: FitRequest) -> list[Fitted]:
        aside = [_aside(split, self.fraction, key) for _, split, key in request.members]
        fitted = self.member.fit_many(request.setting_aside(aside))
        return [
            FittedCalibrated(one, self, self._learn(one, request.examples, out))
            for one, out in zip(fitted, aside, strict=True)
        ]

    @property
    def calibrates(self) -> bool:
        return self.numbers is not None

    def parts(self) -> Sequence[Part]:
        return [Part("calibration", ("validation",)), *self.member.parts()]

    def dynamic(self, layout: Layout) -> TracedHyperparameters | None:
        return self.member.dynamic(layout)

    def load(self, path: Path, layout: Layout) -> Fitted:
        file = path / "calibration.json"
        if not file.exists():
            raise UserError(f"no fitted model at {file}; run the forecast first, or name a run that finished")
        content = json.loads(file.read_text())
        params = {name: {key: np.array(x) for key, x in one.items()} for name, one in content.items()}
        return FittedCalibrated(self.member.load(path / "member", layout), self, params)

    def corrects(self, target: Target) -> Calibrator | None:
        """The calibrator of a target; None for survival, which is left as it is."""
        match target:
            case Number():
                return self.numbers
            case Categorical():
                return self.classes
            case Event():
                return None
            case _:
                assert_never(target)

    def _learn(self, fitted: Fitted, examples: Examples, aside: Bool[np.ndarray, " n"]) -> dict[str, Params]:
        rows, queries = np.flatnonzero(aside), examples.eval_queries
        forecast, params = answers(fitted, examples, rows, queries), {}
        for target in fitted.layout.targets:
            calibrator = self.corrects(target)
            if calibrator is None:
                continue
            truth = queries.truth[target.name]
            assert isinstance(truth, Truth)  # an event is left as it is
            i, q = np.nonzero(np.asarray(truth.observed)[rows])
            if not len(i):
                raise UserError(f"{target.name} is known of none of the {len(rows)} subjects set aside to calibrate by")
            came = np.asarray(truth.value, np.float64)[rows][i, q]
            kept = slice(None if isinstance(target, Categorical) else len(LEVELS))  # of a number its quantiles
            params[target.name] = calibrator.fit(forecast[target.name][i, q, kept], came, i)
        return params


@dataclass(frozen=True)
class FittedCalibrated(Fitted):
    """A fitted member and what its answers are corrected by, target by target."""

    member: Fitted
    recipe: Calibrated
    params: Mapping[str, Params]

    @property
    def layout(self):
        """The layout of the member."""
        return self.member.layout

    @property
    def cost(self):
        """The cost of the member; calibration costs little."""
        return self.member.cost

    @property
    def notes(self) -> Sequence[str]:
        return self.member.notes

    def predict(self, history: Visits, query: Query) -> Forecast:
        forecast = self.member.predict(history, query)
        return {target.name: self._one(target, forecast[target.name]) for target in self.layout.targets}

    def _one(self, target: Target, forecast: Answer) -> Answer:
        calibrator = self.recipe.corrects(target)
        if calibrator is None or isinstance(forecast, SurvivalForecast):
            return forecast
        params = self.params[target.name]
        if isinstance(forecast, Classes):
            return Classes(calibrator.apply(params, forecast.probs))
        return Values(calibrator.apply(params, forecast.quantiles), forecast.point)

    def save(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.member.save(path / "member")
        content = {name: {key: np.asarray(x).tolist() for key, x in one.items()} for name, one in self.params.items()}
        (path / "calibration.json").write_text(json.dumps(content))


def _aside(split: Split, fraction: float, key: Key[Array, ""]) -> Bool[np.ndarray, " n"]:
    """Which validation subjects are set aside, drawn by the key."""
    rows = np.flatnonzero(split.validation)
    if not len(rows):
        raise UserError(
            "got no validation subject, on which a calibrated model is corrected; fix: raise split.validation"
        )
    drawn = random_of(jax.random.fold_in(key, 1)).permutation(rows)[: max(1, round(fraction * len(rows)))]
    return np.isin(np.arange(len(split.validation)), drawn)
