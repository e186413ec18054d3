"""Several forecasters weighted as they deserve."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from framework.data.splits.split import Split
from framework.errors import UserError
from framework.forecast.base import Fitted, Forecaster, Part
from framework.forecast.ensembles.ensemble import FittedEnsemble, each, parts_of, read_by, some_members
from framework.forecast.fit_request import FitRequest
from framework.forecast.tabular.cross_validation import losses, turns
from framework.forecast.target_kinds import without_events
from framework.types import Layout

STEPS = 2000  # of the search for weights


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

    def fit_many(self, request: FitRequest) -> list[Fitted]:
        examples = replace(request.examples, layout=without_events(request.examples.layout, "stacking"))
        outs = [turns(split.train, self.folds, key) for _, split, key in request.members]
        splits = [[split, *(_without(split, out) for out in outs[m])] for m, split, _ in request.members]
        places = np.cumsum([0, *map(len, splits)])
        every = replace(
            request.at(np.repeat(np.arange(len(request)), np.diff(places))),
            examples=examples,
            splits=[split for own in splits for split in own],
            keys=jnp.concatenate([jax.random.split(key, len(splits[m])) for m, _, key in request.members]),
        )
        fitted = each(self.members, every)
        made: list[Fitted] = []
        for turn, start in zip(outs, places[:-1], strict=True):
            members = {name: lanes[start] for name, lanes in fitted.items()}
            left = {name: lanes[start + 1 : start + 1 + len(turn)] for name, lanes in fitted.items()}
            layout = read_by(examples.layout, members)
            judged = losses(examples, layout.measured, turn, [*left.values()])
            weights = {name: least(loss, len(left)).tolist() for name, loss in judged.items()}
            made.append(FittedEnsemble(layout, members, "mean", weights))
        return made

    def parts(self) -> Sequence[Part]:
        return [Part("weights", ("train",)), *parts_of(self.members)]

    def load(self, path: Path, layout: Layout) -> Fitted:
        file = path / "weights.json"
        if not file.exists():
            raise UserError(f"no fitted model at {file}; run the forecast first, or name a run that finished")
        layout = without_events(layout, "stacking")
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


def _without(split: Split, out: Bool[np.ndarray, " n"]) -> Split:
    return replace(split, train=split.train & ~out)
