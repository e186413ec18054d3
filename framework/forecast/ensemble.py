"""Several forecasters as one: their mean or median, one of them on many resamples, or weighted as they deserve."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from framework.data.examples import Examples
from framework.data.split import Split
from framework.errors import UserError
from framework.forecast.answers import answers
from framework.forecast.base import Fitted, Forecaster, Log
from framework.train.optimizer import Dynamic
from framework.types import LEVELS, Arr, Classes, Forecast, Layout, Query, Target, Values, Visits

COMBINATIONS = ("mean", "median")
STEPS = 2000  # of the search for weights
LEAST = 1e-6  # probability, as the metric clips it


@dataclass(frozen=True)
class Voting(Forecaster):
    """The mean of the members' probabilities, and of their quantiles level by level; or the median, summing to one."""

    members: Mapping[str, Forecaster]
    combine: str

    def __post_init__(self):
        _some(self.members)
        _known(self.combine)

    def fit_many(
        self,
        examples: Examples,
        splits: Sequence[Split],
        keys: Key[Array, " m"],
        dynamics: Dynamic | None = None,
        folder: Path | None = None,
        log: Log = lambda row: None,
    ) -> list[Fitted]:
        fitted = _each(self.members, examples, splits, keys, dynamics, folder, log)
        return [
            self._whole(examples.layout, {name: lanes[m] for name, lanes in fitted.items()}) for m in range(len(splits))
        ]

    def load(self, path: Path, layout: Layout) -> Fitted:
        return self._whole(layout, {name: one.load(path / name, layout) for name, one in self.members.items()})

    def _whole(self, layout: Layout, members: Mapping[str, Fitted]) -> "FittedEnsemble":
        return FittedEnsemble(_read(layout, members), members, self.combine)


@dataclass(frozen=True)
class Bagging(Forecaster):
    """`member` fitted `count` times, each time on a share of the training subjects, drawn without replacement.

    A subject is in or out, because a split cannot hold one twice; half without replacement behaves as a bootstrap does
    (Bühlmann & Yu 2002). Validation subjects are the same for all.
    """

    member: Forecaster
    count: int
    share: float
    combine: str

    def __post_init__(self):
        _known(self.combine)
        if self.count < 1 or not 0 < self.share <= 1:
            raise UserError(
                f"model.count={self.count}, model.share={self.share}; expected 1 or more, a share above 0 and up to 1"
            )

    def fit_many(
        self,
        examples: Examples,
        splits: Sequence[Split],
        keys: Key[Array, " m"],
        dynamics: Dynamic | None = None,
        folder: Path | None = None,
        log: Log = lambda row: None,
    ) -> list[Fitted]:
        draws, own = [], []
        for split, key in zip(splits, keys, strict=True):
            own.append(jax.random.split(key, self.count))
            draws += [_part(split, one, self.share) for one in own[-1]]
        repeated = None if dynamics is None else jax.tree.map(lambda x: jnp.repeat(x, self.count, axis=0), dynamics)
        fitted = self.member.fit_many(examples, draws, jnp.concatenate(own), repeated, folder, log)
        bags = [fitted[m * self.count : (m + 1) * self.count] for m in range(len(splits))]
        return [self._whole(examples.layout, bag) for bag in bags]

    def load(self, path: Path, layout: Layout) -> Fitted:
        return self._whole(layout, [self.member.load(path / str(i), layout) for i in range(self.count)])

    def _whole(self, layout: Layout, bag: Sequence[Fitted]) -> "FittedEnsemble":
        members = {str(i): one for i, one in enumerate(bag)}
        return FittedEnsemble(_read(layout, members), members, self.combine)


@dataclass(frozen=True)
class Stacking(Forecaster):
    """The members weighted for each target, weights of at least 0 that sum to one (Breiman 1996).

    Weights are those of the least loss (log loss, pinball) on training subjects that the members did not train on, who
    are left out in `folds` turns. Then each member is fitted on all training subjects.
    """

    members: Mapping[str, Forecaster]
    folds: int

    def __post_init__(self):
        _some(self.members)
        if self.folds < 2:
            raise UserError(f"model.folds is {self.folds}; expected 2 or more, to weight by subjects left out")

    def fit_many(
        self,
        examples: Examples,
        splits: Sequence[Split],
        keys: Key[Array, " m"],
        dynamics: Dynamic | None = None,
        folder: Path | None = None,
        log: Log = lambda row: None,
    ) -> list[Fitted]:
        turns = [_turns(split, self.folds, key) for split, key in zip(splits, keys, strict=True)]
        plans = [[split, *(_without(split, out) for out in outs)] for split, outs in zip(splits, turns, strict=True)]
        places = np.cumsum([0, *map(len, plans)])
        own = jnp.concatenate([jax.random.split(key, len(plan)) for key, plan in zip(keys, plans, strict=True)])
        repeats = np.diff(places)
        told = None if dynamics is None else jax.tree.map(lambda x: jnp.repeat(x, repeats, axis=0), dynamics)
        fitted = _each(self.members, examples, [s for plan in plans for s in plan], own, told, folder, log)
        made: list[Fitted] = []
        for outs, start in zip(turns, places[:-1], strict=True):
            members = {name: lanes[start] for name, lanes in fitted.items()}
            left = {name: lanes[start + 1 : start + 1 + len(outs)] for name, lanes in fitted.items()}
            weights = _weigh(examples, outs, left)
            made.append(FittedEnsemble(_read(examples.layout, members), members, "mean", weights))
        return made

    def load(self, path: Path, layout: Layout) -> Fitted:
        file = path / "weights.json"
        if not file.exists():
            raise UserError(f"no fitted model at {file}; run the forecast first, or name a run that finished")
        members = {name: one.load(path / name, layout) for name, one in self.members.items()}
        return FittedEnsemble(_read(layout, members), members, "mean", json.loads(file.read_text()))


@dataclass(frozen=True)
class FittedEnsemble(Fitted):
    """Fitted members and how they come together; `weights` of the mean by target, none where all weigh alike."""

    layout: Layout
    members: Mapping[str, Fitted]
    combine: str
    weights: Mapping[str, Sequence[float]] | None = None

    def predict(self, history: Visits, query: Query) -> Forecast:
        told = [one.predict(_seen(history, one.layout), query) for one in self.members.values()]
        return {t.name: self._one(t, [forecast[t.name] for forecast in told]) for t in self.layout.targets}

    def save(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        for name, one in self.members.items():
            one.save(path / name)
        if self.weights is not None:
            (path / "weights.json").write_text(json.dumps(self.weights))

    def _one(self, target: Target, told: Sequence[Classes | Values]) -> Classes | Values:
        numbers = jnp.stack([jnp.asarray(_numbers(one), float) for one in told])
        if self.combine == "median":
            whole = jnp.median(numbers, axis=0)
        elif self.weights is None:
            whole = jnp.mean(numbers, axis=0)
        else:
            whole = jnp.tensordot(jnp.asarray(self.weights[target.name], float), numbers, 1)
        return Classes(whole / whole.sum(-1, keepdims=True)) if target.levels else Values(jnp.sort(whole, axis=-1))


def least(loss: Callable[[Array], Array], count: int) -> Float[np.ndarray, " k"]:
    """The weights, at least 0 and summing to one, at which a convex loss is least.

    Mirror descent with entropy (Beck & Teboulle 2003), its steps falling with the root of their number; of all weights
    it passed the best are taken, so that the answer is never worse than equal ones.
    """

    def step(state: tuple[Array, Array, Array], number: Array) -> tuple[tuple[Array, Array, Array], None]:
        at, best, value = state
        weights = jax.nn.softmax(at)
        here, slope = jax.value_and_grad(loss)(weights)
        best = jnp.where(here < value, weights, best)
        size = jnp.maximum(jnp.abs(slope - slope.mean()).max(), 1e-12)
        return (at - (slope - slope.mean()) / size / jnp.sqrt(number + 1.0), best, jnp.minimum(here, value)), None

    start = jnp.zeros(count), jnp.full(count, 1 / count), jnp.array(jnp.inf)
    return np.asarray(jax.lax.scan(step, start, jnp.arange(STEPS))[0][1], np.float64)


def _weigh(
    examples: Examples, outs: Sequence[Bool[np.ndarray, " n"]], left: Mapping[str, Sequence[Fitted]]
) -> dict[str, list[float]]:
    """For each target the weights of the members by what they say of the subjects left out."""
    told: dict[str, list[np.ndarray]] = {t.name: [] for t in examples.layout.targets}
    truth: dict[str, list[np.ndarray]] = {t.name: [] for t in examples.layout.targets}
    for turn, out in enumerate(outs):
        rows = np.flatnonzero(out)
        said = [answers(lanes[turn], examples, rows, examples.asked) for lanes in left.values()]
        for name in told:
            asked = np.asarray(examples.asked.truth[name].observed)[rows]
            told[name].append(np.stack([one[name][asked] for one in said]))
            truth[name].append(np.asarray(examples.asked.truth[name].value)[rows][asked])
    weights = {}
    for target in examples.layout.targets:
        numbers, came = np.concatenate(told[target.name], 1), np.concatenate(truth[target.name])
        if not len(came):
            raise UserError(f"{target.name} is known of no training subject; stacking needs some to weigh members by")
        loss = partial(_log_loss if target.levels else _pinball, jnp.asarray(numbers), jnp.asarray(came))
        weights[target.name] = least(loss, len(left)).tolist()
    return weights


def _log_loss(told: Float[Array, "k n c"], came: Float[Array, " n"], weights: Float[Array, " k"]) -> Float[Array, ""]:
    given = jnp.take_along_axis(jnp.tensordot(weights, told, 1), came.astype(int)[:, None], 1)
    return -jnp.log(jnp.maximum(given, LEAST)).mean()


def _pinball(told: Float[Array, "k n l"], came: Float[Array, " n"], weights: Float[Array, " k"]) -> Float[Array, ""]:
    error = came[:, None] - jnp.tensordot(weights, told, 1)
    levels = jnp.array(LEVELS)
    return jnp.maximum(levels * error, (levels - 1) * error).mean()


def _each(
    members: Mapping[str, Forecaster],
    examples: Examples,
    splits: Sequence[Split],
    keys: Key[Array, " m"],
    dynamics: Dynamic | None,
    folder: Path | None,
    log: Log,
) -> dict[str, list[Fitted]]:
    """All members, one after the other, each with keys, a folder and numbers in the log of its own."""
    fitted = {}
    for place, (name, one) in enumerate(members.items()):

        def told(row: dict, name: str = name, first: int = place * len(splits)) -> None:
            log({**row, "member": first + row["member"], "part": name})

        own = jax.vmap(partial(jax.random.fold_in, data=place))(keys)
        fitted[name] = one.fit_many(examples, splits, own, dynamics, folder and folder / name, told)
    return fitted


def _part(split: Split, key: Key[Array, ""], share: float) -> Split:
    """The split with a share of its training subjects, drawn by the key."""
    rows = np.flatnonzero(split.train)
    drawn = _random(key).permutation(rows)[: max(1, round(share * len(rows)))]
    return Split(np.isin(np.arange(len(split.train)), drawn), split.validation, split.test)


def _turns(split: Split, folds: int, key: Key[Array, ""]) -> list[Bool[np.ndarray, " n"]]:
    """Who of the training subjects is left out in each turn."""
    rows = np.flatnonzero(split.train)
    if len(rows) < 2:
        raise UserError(f"{len(rows)} training subjects; stacking needs 2 or more, to weight by some left out")
    of = np.full(len(split.train), -1)
    of[_random(key).permutation(rows)] = np.arange(len(rows)) % min(folds, len(rows))
    return [of == turn for turn in range(of.max() + 1)]


def _without(split: Split, out: Bool[np.ndarray, " n"]) -> Split:
    return replace(split, train=split.train & ~out)


def _random(key: Key[Array, ""]) -> np.random.Generator:
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def _read(layout: Layout, members: Mapping[str, Fitted]) -> Layout:
    """The layout with the modalities that some member reads."""
    wanted = {name for one in members.values() for name in one.layout.modalities}
    kept = [(n, g) for n, g in zip(layout.modalities, layout.grids, strict=True) if n in wanted]
    return replace(layout, modalities=tuple(n for n, _ in kept), grids=tuple(g for _, g in kept))


def _seen(history: Visits, layout: Layout) -> Visits:
    return replace(history, scans={name: history.scans[name] for name in layout.modalities})


def _numbers(forecast: Classes | Values) -> Arr:
    return forecast.probs if isinstance(forecast, Classes) else forecast.quantiles


def _some(members: Mapping[str, Forecaster]) -> None:
    if not members:
        raise UserError("an ensemble has no members; give model.members.<name>=<a model>")


def _known(combine: str) -> None:
    if combine not in COMBINATIONS:
        raise UserError(f"model.combine is {combine!r}; expected one of {list(COMBINATIONS)}")
