"""Several forecasters as one: their mean or median, or one of them on many resamples."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import assert_never

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from framework.data.splits.split import Split
from framework.errors import UserError
from framework.forecast.base import Fitted, Forecaster, Part
from framework.forecast.fit_request import FitRequest
from framework.forecast.predict import numbers as numbers_of
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
    Values,
    Visits,
)

COMBINATIONS = ("mean", "median")


@dataclass(frozen=True)
class Voting(Forecaster):
    """The mean of the members' probabilities, and of their quantiles level by level; or the median, summing to one.

    Survival comes together as it is. Targets that a member does not answer are left out.
    """

    members: Mapping[str, Forecaster]
    combine: str

    def __post_init__(self):
        some_members(self.members)
        _known(self.combine)

    def fit_many(self, request: FitRequest) -> list[Fitted]:
        layout, fitted = request.examples.layout, each(self.members, request)
        return [self._whole(layout, {name: lanes[m] for name, lanes in fitted.items()}) for m in range(len(request))]

    def parts(self) -> Sequence[Part]:
        return parts_of(self.members)

    def load(self, path: Path, layout: Layout) -> Fitted:
        return self._whole(layout, {name: one.load(path / name, layout) for name, one in self.members.items()})

    def _whole(self, layout: Layout, members: Mapping[str, Fitted]) -> "FittedEnsemble":
        return FittedEnsemble(read_by(layout, members), members, self.combine)


@dataclass(frozen=True)
class Bagging(Forecaster):
    """`member` fitted `num_members` times, each time on a fraction of the training subjects, drawn without replacement.

    A subject is in or out, because a split cannot hold one twice; half without replacement behaves as a bootstrap does
    (Bühlmann & Yu 2002). Validation subjects are the same for all.
    """

    member: Forecaster
    num_members: int
    fraction: float
    combine: str

    def __post_init__(self):
        _known(self.combine)
        if self.num_members < 1 or not 0 < self.fraction <= 1:
            raise UserError(
                f"model.num_members={self.num_members}, model.fraction={self.fraction}; expected 1 or more, a fraction "
                "above 0 and up to 1"
            )

    def fit_many(self, request: FitRequest) -> list[Fitted]:
        repeated = request.at(np.repeat(np.arange(len(request)), self.num_members))
        keys = jnp.concatenate([jax.random.split(key, self.num_members) for key in request.keys])
        draws = [_part(split, key, self.fraction) for split, key in zip(repeated.splits, keys, strict=True)]
        fitted = self.member.fit_many(replace(repeated, splits=draws, keys=keys))
        bags = [fitted[m * self.num_members : (m + 1) * self.num_members] for m in range(len(request))]
        return [self._whole(request.examples.layout, bag) for bag in bags]

    def parts(self) -> Sequence[Part]:
        return self.member.parts()

    def load(self, path: Path, layout: Layout) -> Fitted:
        return self._whole(layout, [self.member.load(path / str(i), layout) for i in range(self.num_members)])

    def _whole(self, layout: Layout, bag: Sequence[Fitted]) -> "FittedEnsemble":
        members = {str(i): one for i, one in enumerate(bag)}
        return FittedEnsemble(read_by(layout, members), members, self.combine)


def parts_of(members: Mapping[str, Forecaster]) -> list[Part]:
    """The parts that members fit, under their names."""
    return [replace(part, name=f"{name}: {part.name}") for name, one in members.items() for part in one.parts()]


@dataclass(frozen=True)
class FittedEnsemble(Fitted):
    """Fitted members and how they come together; `weights` of the mean by target, none where all weigh alike."""

    layout: Layout
    members: Mapping[str, Fitted]
    combine: str
    weights: Mapping[str, Sequence[float]] | None = None

    @property
    def notes(self) -> Sequence[str]:
        return [*dict.fromkeys(note for one in self.members.values() for note in one.notes)]

    def predict(self, history: Visits, query: Query) -> Forecast:
        forecasts = [one.predict(_seen(history, one.layout), query) for one in self.members.values()]
        return {t.name: self._one(t, [forecast[t.name] for forecast in forecasts]) for t in self.layout.targets}

    def save(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        for name, one in self.members.items():
            one.save(path / name)
        if self.weights is not None:
            (path / "weights.json").write_text(json.dumps(self.weights))

    def _one(self, target: Target, answers: Sequence[Answer]) -> Answer:
        numbers = jnp.stack([jnp.asarray(numbers_of(one), float) for one in answers])
        if self.combine == "median":
            whole = jnp.median(numbers, axis=0)
        elif self.weights is None:
            whole = jnp.mean(numbers, axis=0)
        else:
            whole = jnp.tensordot(jnp.asarray(self.weights[target.name], float), numbers, 1)
        match target:
            case Number():
                return Values(jnp.sort(whole[..., : len(LEVELS)], axis=-1), whole[..., -1])
            case Categorical():
                return Classes(whole / whole.sum(-1, keepdims=True))
            case Event():
                return SurvivalForecast(whole)
            case _:
                assert_never(target)


def each(members: Mapping[str, Forecaster], request: FitRequest) -> dict[str, list[Fitted]]:
    """All members, one after the other, each with keys, a folder and numbers in the log of its own."""
    fitted = {}
    for place, (name, one) in enumerate(members.items()):
        keys = jax.vmap(partial(jax.random.fold_in, data=place))(request.keys)
        own = replace(request, keys=keys).within(name).numbered_from(place * len(request), part=name)
        fitted[name] = one.fit_many(own)
    return fitted


def _part(split: Split, key: Key[Array, ""], fraction: float) -> Split:
    """The split with a fraction of its training subjects, drawn by the key."""
    rows = np.flatnonzero(split.train)
    drawn = random_of(key).permutation(rows)[: max(1, round(fraction * len(rows)))]
    return Split(np.isin(np.arange(len(split.train)), drawn), split.validation, split.test)


def random_of(key: Key[Array, ""]) -> np.random.Generator:
    """Host randomness that depends on a key."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def read_by(layout: Layout, members: Mapping[str, Fitted]) -> Layout:
    """The layout with the modalities that some member reads, and the targets that all of them answer."""
    wanted = {name for one in members.values() for name in one.layout.modalities}
    kept = [(n, g) for n, g in zip(layout.modalities, layout.grids, strict=True) if n in wanted]
    answered = [{target.name for target in one.layout.targets} for one in members.values()]
    targets = tuple(target for target in layout.targets if all(target.name in names for names in answered))
    return replace(layout, targets=targets, modalities=tuple(n for n, _ in kept), grids=tuple(g for _, g in kept))


def _seen(history: Visits, layout: Layout) -> Visits:
    return replace(history, scans={name: history.scans[name] for name in layout.modalities})


def some_members(members: Mapping[str, Forecaster]) -> None:
    """Raise UserError where there are none."""
    if not members:
        raise UserError("an ensemble has no members; give model.members.<name>=<a model>")


def _known(combine: str) -> None:
    if combine not in COMBINATIONS:
        raise UserError(f"model.combine is {combine!r}; expected one of {list(COMBINATIONS)}")
