"""Any estimator as a forecaster: a table of histories and what came of them, one estimator a target."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from framework.data.batch import Loader
from framework.data.examples import Examples
from framework.data.split import Split
from framework.errors import UserError
from framework.forecast.base import Fitted, Forecaster, Log
from framework.forecast.embeddings import Embeddings
from framework.forecast.history_features import feature_names, history_features, last_value
from framework.forecast.pretrained import Pretrained
from framework.forecast.selection import Candidates, Program, Rows, choose, folds
from framework.nn.model import encoders
from framework.train.checkpoint import load_arrays, save_arrays
from framework.train.optimizer import Dynamic
from framework.types import LEVELS, Arr, Classes, Forecast, Layout, Query, Target, Values, Visits

CHUNK = 256  # subjects whose histories are tabulated at once
WEIGHS = ("pair", "subject")


@dataclass(frozen=True)
class Table:
    """Every question of every subject: features (see `history_features`), truths, and the targets' last values."""

    x: Float[Arr, "n f"]
    observed: Bool[Arr, "n f"]
    subject: Int[np.ndarray, " n"]
    truth: Mapping[str, Float[np.ndarray, " n"]]
    known: Mapping[str, Bool[np.ndarray, " n"]]
    last: Mapping[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Tabular(Forecaster):
    """`classifier` for targets with levels, `regressor` for numbers, each chosen from its candidates and fitted
    on the training and validation subjects, who are left out in `folds` turns to choose by.

    A row is a history and a later visit; rows weigh alike, or (`weigh="subject"`) subjects do. With `residual` a number
    whose history is an input is learnt as the change from its last observation, and as its distance from the mean
    where there is none. An estimator that predicts one number has around it the quantiles of its errors on subjects
    left out. Scans are told by the frozen encoders of the run `pretrained`, made by `encoder`; None leaves them out.
    """

    classifier: Candidates
    regressor: Candidates
    folds: int
    weigh: str
    residual: bool
    encoder: Any
    augment: Any
    pretrained: str | None

    def __post_init__(self):
        if self.folds < 2:
            raise UserError(f"model.folds is {self.folds}; expected 2 or more, to choose by subjects left out")
        if self.weigh not in WEIGHS:
            raise UserError(f"model.weigh is {self.weigh!r}; expected one of {list(WEIGHS)}")
        if (self.encoder is None) != (self.pretrained is None):
            raise UserError(
                "a tabular model reads scans by a pretrained encoder, which it does not train; give both "
                "+model/encoder=... and model.pretrained=<run>, or neither"
            )
        if self.augment is not None:
            raise UserError("a tabular model encodes each scan once, as it is; add model.augment=null")

    def fit_many(
        self,
        examples: Examples,
        splits: Sequence[Split],
        keys: Key[Array, " m"],
        dynamics: Dynamic | None = None,
        folder: Path | None = None,
        log: Log = lambda row: None,
    ) -> list[Fitted]:
        """One member after the other; all of them run the same programs."""
        layout = self._reads(examples.layout)
        frozen = self._pretrained(layout, examples, splits)
        table = tabulate(examples, layout, frozen)
        made: list[Fitted] = []
        for member, (split, key) in enumerate(zip(splits, keys, strict=True)):
            learns = split.train | split.validation
            learnt = {
                target.name: self._learn(table, target, learns, jax.random.fold_in(key, place))
                for place, target in enumerate(layout.targets)
            }
            made.append(FittedTabular(layout, learnt, frozen))
            log(_row(member, len(splits), learnt))
        return made

    def load(self, path: Path, layout: Layout) -> Fitted:
        file = path / "chosen.json"
        if not file.exists():
            raise UserError(f"no fitted model at {file}; run the forecast first, or name a run that finished")
        layout, told = self._reads(layout), json.loads(file.read_text())
        frozen = None if self.encoder is None else Embeddings(encoders(self.encoder, layout, nnx.Rngs(0)))
        features = len(feature_names(layout if frozen is None else frozen.layout(layout)))
        blank = {t.name: self._blank(t, told, features, path) for t in layout.targets}
        like = ({name: one.params for name, one in blank.items()}, {} if frozen is None else frozen.weights)
        params, weights = load_arrays(path / "params", like)
        if frozen is not None:
            frozen.weights = weights
        return FittedTabular(layout, {name: replace(one, params=params[name]) for name, one in blank.items()}, frozen)

    def _reads(self, layout: Layout) -> Layout:
        return layout if self.encoder is not None else replace(layout, modalities=(), grids=())

    def _pretrained(self, layout: Layout, examples: Examples, splits: Sequence[Split]) -> Embeddings | None:
        if self.pretrained is None:
            return None
        run = Pretrained.read(self.pretrained)
        run.keep_from(examples.cohort, splits)
        return Embeddings(run.encoders(self.encoder, layout))

    def _programs(self, target: Target) -> list[Program]:
        return (self.classifier if target.levels else self.regressor).programs(len(target.levels))

    def _learn(self, table: Table, target: Target, learns: Bool[np.ndarray, " s"], key: Key[Array, ""]) -> "Learnt":
        usable = table.known[target.name] & learns[table.subject]
        count = len(np.unique(table.subject[usable]))
        if count < 2:
            raise UserError(f"{target.name} is known of {count} training subjects; choosing a model needs 2 or more")
        weight = usable.astype(float)
        if self.weigh == "subject":
            weight /= np.maximum(np.bincount(table.subject, usable), 1)[table.subject]
        fold = folds(table.subject, weight, min(self.folds, count), key)
        truth = table.truth[target.name]
        middle = 0.0 if target.levels else float(np.average(truth, weights=np.where(usable, weight, 0)))
        start = _start(*table.last[target.name], middle) if self._differs(target) else np.full(len(truth), middle)
        spread = 1.0 if target.levels else float((truth - start)[usable].std()) or 1.0
        y = (truth - start) / spread
        scorer = (_ClassLoss if target.levels else _NumberLoss)(usable, y, weight)
        y = jnp.asarray(y, jnp.int32 if target.levels else jnp.float32)
        rows = Rows(table.x, table.observed, y, weight, fold)
        choice = choose(self._programs(target), rows, scorer.loss, key)
        return Learnt(
            program=choice.program,
            candidate=choice.candidate,
            params=choice.program.fit(choice.candidate, rows, key),
            differs=self._differs(target),
            middle=middle,
            around=scorer.around(choice.left_out),
            learnt_from=int(usable.sum()),
            table_rows=len(truth),
            scores=choice.scores,
            spread=spread,
        )

    def _differs(self, target: Target) -> bool:
        return self.residual and target.seen and not target.levels

    def _blank(self, target: Target, told: Mapping, features: int, path: Path) -> "Learnt":
        """What was learnt, less its parameters, whose shapes stand in their place."""
        if target.name not in told:
            raise UserError(f"the model at {path} was fitted on {list(told)}, not on {target.name}; name another run")
        facts = dict(told[target.name])
        settings = json.dumps(facts.pop("settings"))
        facts["scores"] = [(own, score) for own, score in facts["scores"]]
        for program in self._programs(target):
            for candidate, own in enumerate(program.settings):
                if json.dumps(own) == settings:
                    like = program.like(candidate, facts["table_rows"], features, len(target.levels))
                    return Learnt(program=program, candidate=candidate, params=like, **facts)
        raise UserError(f"the model at {path} chose {settings} for {target.name}, which is not in its grid any more")


@dataclass(frozen=True)
class Learnt:
    """What was learnt of one target.

    A number is predicted in units of `spread`, as a distance from `middle`, or, where it `differs`, as the change from
    its last observation. `around` are the quantiles of its error, empty where the estimator predicts quantiles itself.
    `learnt_from` of `table_rows` rows weighed something. `scores` are all candidates' settings and losses on subjects
    left out: log loss, or pinball loss in units of the spread.
    """

    program: Program
    candidate: int
    params: PyTree
    differs: bool
    middle: float
    around: Sequence[float]
    learnt_from: int
    table_rows: int
    scores: Sequence[tuple[Mapping[str, Any], float]]
    spread: float

    @property
    def settings(self) -> Mapping[str, Any]:
        """Those of the chosen candidate."""
        return self.program.settings[self.candidate]

    @property
    def score(self) -> float:
        return min(score for _, score in self.scores)

    def facts(self) -> dict[str, Any]:
        """All but the parameters, as JSON has it."""
        kept = ("differs", "middle", "around", "learnt_from", "table_rows", "scores", "spread")
        return {"settings": self.settings, **{name: getattr(self, name) for name in kept}}

    def told(self, x: Float[Arr, "n f"], observed: Bool[Arr, "n f"], start: Float[Arr, " n"]) -> Arr:
        """Probabilities, or quantiles from `start` on."""
        told = self.program.predict(self.candidate, self.params, x, observed)
        if self.program.estimator.classes:
            return _smooth(told, self.learnt_from)
        told = told + jnp.asarray(self.around, told.dtype) if len(self.around) else jnp.sort(told, axis=-1)
        return told * self.spread + jnp.asarray(start)[:, None]


@dataclass(frozen=True)
class FittedTabular(Fitted):
    """What was learnt, by target, and the frozen encoders if scans are read."""

    layout: Layout
    learnt: Mapping[str, Learnt]
    frozen: Embeddings | None

    @cached_property
    def _features(self) -> Layout:
        return self.layout if self.frozen is None else self.frozen.layout(self.layout)

    def predict(self, history: Visits, query: Query) -> Forecast:
        history = replace(history, scans={}) if self.frozen is None else self.frozen.visits(history)
        x, observed = history_features(history, query, self._features)
        return {t.name: self._one(t, x, observed, history, query) for t in self.layout.targets}

    def save(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        weights = {} if self.frozen is None else self.frozen.weights
        save_arrays(path / "params", ({name: one.params for name, one in self.learnt.items()}, weights))
        (path / "chosen.json").write_text(json.dumps({name: one.facts() for name, one in self.learnt.items()}))

    def _one(self, target: Target, x: Array, observed: Array, history: Visits, query: Query) -> Classes | Values:
        learnt, shape = self.learnt[target.name], x.shape[:2]
        start = jnp.full(shape, learnt.middle)
        if learnt.differs:
            start = _start(*last_value(history, query, target.index), learnt.middle)
        flat, seen, start = (a.reshape(-1, *a.shape[2:]) for a in (x, observed, jnp.asarray(start)))
        told = learnt.told(flat, seen, start)
        told = told.reshape(*shape, told.shape[-1])
        return Classes(told) if target.levels else Values(told)


def tabulate(examples: Examples, layout: Layout, frozen: Embeddings | None = None) -> Table:
    """What the forecaster is taught, as a table; subjects in their order."""
    shape = layout if frozen is None else frozen.layout(layout)
    loader = Loader(replace(examples, layout=shape), 0, None if frozen is None else frozen.of)
    everyone = range(len(examples.subjects))
    size = loader.size(min(CHUNK, len(everyone)), everyone)
    parts = []
    for some in loader.pack(everyone, size):
        batch = loader.batch(some, size, examples.taught)
        asks = np.asarray(batch.query.valid) & (np.asarray(batch.weight) > 0)[:, None]
        found = {"x": history_features(batch.visits, batch.query, shape)}
        found["subject"] = np.broadcast_to(np.array([*some, *[0] * (len(asks) - len(some))])[:, None], asks.shape)
        for target in layout.targets:
            truth = batch.truth[target.name]
            found[f"truth {target.name}"] = truth.value, truth.observed
            found[f"last {target.name}"] = last_value(batch.visits, batch.query, target.index)
        parts.append(jax.tree.map(lambda a, asks=asks: np.asarray(a)[asks], found))
    whole = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
    truth = {t.name: whole[f"truth {t.name}"] for t in layout.targets}
    return Table(
        x=jnp.asarray(whole["x"][0]),
        observed=jnp.asarray(whole["x"][1]),
        subject=whole["subject"],
        truth={name: np.where(known, value, 0).astype(float) for name, (value, known) in truth.items()},
        known={name: known for name, (_, known) in truth.items()},
        last={t.name: whole[f"last {t.name}"] for t in layout.targets},
    )


@dataclass(frozen=True)
class _ClassLoss:
    """Log loss of probabilities."""

    usable: Bool[np.ndarray, " n"]
    truth: Float[np.ndarray, " n"]
    weight: Float[np.ndarray, " n"]

    def loss(self, told: Float[np.ndarray, "n p"]) -> float:
        given = np.asarray(_smooth(told, int(self.usable.sum())))[np.arange(len(told)), self.truth.astype(int)]
        return float(np.average(-np.log(given[self.usable]), weights=self.weight[self.usable]))

    def around(self, told: Float[np.ndarray, "n p"]) -> list[float]:
        return []


@dataclass(frozen=True)
class _NumberLoss:
    """Pinball loss of quantiles, or of a number with the quantiles of its errors around it."""

    usable: Bool[np.ndarray, " n"]
    truth: Float[np.ndarray, " n"]
    weight: Float[np.ndarray, " n"]

    def loss(self, told: Float[np.ndarray, "n p"]) -> float:
        told, truth = told[self.usable], self.truth[self.usable, None]
        around = self.around_of(told, truth)
        error = truth - (told + np.array(around) if around else np.sort(told, axis=1))
        pinball = np.maximum(np.array(LEVELS) * error, (np.array(LEVELS) - 1) * error).mean(1)
        return float(np.average(pinball, weights=self.weight[self.usable]))

    def around(self, told: Float[np.ndarray, "n p"]) -> list[float]:
        return self.around_of(told[self.usable], self.truth[self.usable, None])

    def around_of(self, told: np.ndarray, truth: np.ndarray) -> list[float]:
        if told.shape[1] == len(LEVELS):
            return []
        if told.shape[1] > 1:
            raise UserError(f"the regressor predicts {told.shape[1]} quantiles; expected one number, or {list(LEVELS)}")
        return np.quantile(truth - told, LEVELS).tolist()


def _smooth(told: Float[Arr, "n p"], rows: int) -> Float[Arr, "n p"]:
    """Probabilities as if one more row had been shared by all levels: none is said to be impossible."""
    return (told * rows + 1 / told.shape[-1]) / (rows + 1)


def _start(value: Arr, has: Arr, middle: float) -> Float[Arr, "..."]:
    """From where a change is counted."""
    where = np.where if isinstance(value, np.ndarray) else jnp.where
    return where(has, value, middle)


def _row(member: int, members: int, learnt: Mapping[str, Learnt]) -> dict[str, Any]:
    """What the log is told of a member: `validation` is the sum of its losses on subjects left out."""
    return {
        "member": member,
        "step": member + 1,
        "of": members,
        "train": float("nan"),
        "validation": sum(one.score for one in learnt.values()),
        "chosen": {name: dict(one.settings) for name, one in learnt.items()},
        "scores": {name: list(one.scores) for name, one in learnt.items()},
    }
