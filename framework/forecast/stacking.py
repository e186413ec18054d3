"""Several forecasters weighted as they deserve."""

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
from framework.forecast.base import Fitted, Forecaster, Log, Part
from framework.forecast.ensemble import FittedEnsemble, each, parts_of, random_of, read_by, some_members
from framework.train.optimizer import Dynamic
from framework.types import LEVELS, Layout

STEPS = 2000  # of the search for weights
LEAST = 1e-6  # probability, as the metric clips it


@dataclass(frozen=True)
class Stacking(Forecaster):
    """The members weighted for each target, weights of at least 0 that sum to one (Breiman 1996).

    Weights are those of the least loss (log loss, pinball) on training subjects that the members did not train on, who
    are left out in `folds` turns. Then each member is fitted on all training subjects.
    """

    members: Mapping[str, Forecaster]
    folds: int

    def __post_init__(self):
        some_members(self.members)
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
        fitted = each(self.members, examples, [s for plan in plans for s in plan], own, told, folder, log)
        made: list[Fitted] = []
        for outs, start in zip(turns, places[:-1], strict=True):
            members = {name: lanes[start] for name, lanes in fitted.items()}
            left = {name: lanes[start + 1 : start + 1 + len(outs)] for name, lanes in fitted.items()}
            weights = _weigh(examples, outs, left)
            made.append(FittedEnsemble(read_by(examples.layout, members), members, "mean", weights))
        return made

    def parts(self) -> Sequence[Part]:
        return [Part("weights", ("train",)), *parts_of(self.members)]

    def load(self, path: Path, layout: Layout) -> Fitted:
        file = path / "weights.json"
        if not file.exists():
            raise UserError(f"no fitted model at {file}; run the forecast first, or name a run that finished")
        members = {name: one.load(path / name, layout) for name, one in self.members.items()}
        return FittedEnsemble(read_by(layout, members), members, "mean", json.loads(file.read_text()))


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


def _turns(split: Split, folds: int, key: Key[Array, ""]) -> list[Bool[np.ndarray, " n"]]:
    """Who of the training subjects is left out in each turn."""
    rows = np.flatnonzero(split.train)
    if len(rows) < 2:
        raise UserError(f"{len(rows)} training subjects; stacking needs 2 or more, to weight by some left out")
    of = np.full(len(split.train), -1)
    of[random_of(key).permutation(rows)] = np.arange(len(rows)) % min(folds, len(rows))
    return [of == turn for turn in range(of.max() + 1)]


def _without(split: Split, out: Bool[np.ndarray, " n"]) -> Split:
    return replace(split, train=split.train & ~out)
