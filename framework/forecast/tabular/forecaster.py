"""Any estimator as a forecaster: a table of histories and what came of them, one estimator a target."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, assert_never

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Key, PyTree

from framework.data.queries.examples import Examples
from framework.data.splits.split import Split
from framework.errors import UserError
from framework.forecast.base import Fitted, Forecaster, Part, Turns
from framework.forecast.calibration.horizon import HeldOut
from framework.forecast.deep.embeddings import Embeddings
from framework.forecast.deep.pretrained import Pretrained
from framework.forecast.fit_request import FitRequest, Fits
from framework.forecast.tabular.history_features import feature_names, history_features, last_value
from framework.forecast.tabular.selection import Candidates, Program, Rows, choose, folds
from framework.forecast.tabular.tabular_fit import ClassLoss, Learnt, NumberLoss
from framework.forecast.tabular.training_table import Table, size_of, tabulate
from framework.forecast.target_kinds import without_events
from framework.image.augment.compose import Compose
from framework.nn.encoders.base import Encoder
from framework.nn.model import encoders
from framework.train.array_io import load_arrays, save_arrays
from framework.types import Arr, Categorical, Classes, Forecast, Layout, Measured, Number, Query, Values, Visits

WEIGHT_BY = ("query", "subject")
MANY = 10_000  # rows from which on the memory of a fit is estimated beforehand


@dataclass(frozen=True)
class Tabular(Forecaster):
    """`classifier` for targets with levels, `regressor` for numbers, each chosen from its candidates and fitted
    on the training and validation subjects, who are left out in `folds` turns to choose by.

    A row is a history and a later visit; rows weigh alike, or (`weight_by="subject"`) subjects do. With `residual` a
    number whose history is an input is learnt as the change from its last observation, and as its distance from the
    mean where there is none. An estimator that predicts one number has around it the quantiles of its errors on
    subjects left out. Scans are represented by the frozen encoders of the run `pretrained`, made by `encoder`; None
    leaves them out. A fit that would take more memory than `max_memory_gb` is refused beforehand.
    """

    classifier: Candidates
    regressor: Candidates
    folds: int
    weight_by: str
    residual: bool
    encoder: Callable[..., Encoder] | None
    augment: Compose | None
    pretrained: str | None
    max_memory_gb: float = 8.0

    def __post_init__(self):
        if self.max_memory_gb <= 0:
            raise UserError(f"model.max_memory_gb is {self.max_memory_gb}; expected memory above 0")
        if self.folds < 2:
            raise UserError(f"model.folds is {self.folds}; expected 2 or more, to choose by subjects left out")
        if self.weight_by not in WEIGHT_BY:
            raise UserError(f"model.weight_by is {self.weight_by!r}; expected one of {list(WEIGHT_BY)}")
        if (self.encoder is None) != (self.pretrained is None):
            raise UserError(
                "a tabular model reads scans by a pretrained encoder, which it does not train; give both "
                "+model/encoder=... and model.pretrained=<run>, or neither"
            )
        if self.augment is not None:
            raise UserError("a tabular model encodes each scan once, as it is; add model.augment=null")

    def fit_many(self, request: FitRequest) -> list[Fitted]:
        """One member after the other; all of them run the same programs."""
        return [fitted for fitted, _ in self.fit_held_out(request)]

    @property
    def forecasts_held_out(self) -> bool:
        """Whether the subjects that select candidates are left out in turn."""
        return True

    def fit_held_out(self, request: FitRequest) -> list[tuple[Fitted, Mapping[str, HeldOut]]]:
        examples = request.examples
        layout = self._reads(examples.layout)
        frozen = self._pretrained(layout, examples, request.splits)
        self._afford(examples, layout if frozen is None else frozen.layout(layout))
        table = tabulate(examples, layout, frozen)
        made: list[tuple[Fitted, Mapping[str, HeldOut]]] = []
        fits = Fits(request.log, len(request) * sum(map(self._fits, layout.measured)))
        for member, split, key in request.members:
            learns = split.train | split.validation
            learnt, held_out = {}, {}
            for place, target in enumerate(layout.measured):
                own = self._learn(table, target, learns, jax.random.fold_in(key, place), partial(fits.done, member))
                learnt[target.name], left_out = own
                if left_out is not None:
                    held_out[target.name] = left_out
            made.append((FittedTabular(layout, learnt, frozen), held_out))
            request.log(_row(member, len(request), learnt))
        return made

    def turns(self, examples: Examples, splits: Sequence[Split]) -> Turns:
        return Turns("its members are fitted one after another anyway", 1)

    def load(self, path: Path, layout: Layout) -> Fitted:
        file = path / "chosen.json"
        if not file.exists():
            raise UserError(f"no fitted model at {file}; run the forecast first, or name a run that finished")
        layout, saved = self._reads(layout), json.loads(file.read_text())
        frozen = None if self.encoder is None else Embeddings(encoders(self.encoder, layout, nnx.Rngs(0)))
        features = len(feature_names(layout if frozen is None else frozen.layout(layout)))
        blank = {t.name: self._blank(t, saved, features, path) for t in layout.measured}
        like = ({name: one.params for name, one in blank.items()}, {} if frozen is None else frozen.weights)
        finite = all(one.program.estimator.FINITE for one in blank.values())
        params, weights = load_arrays(path / "params", like, finite)
        if frozen is not None:
            frozen.weights = weights
        return FittedTabular(layout, {name: replace(one, params=params[name]) for name, one in blank.items()}, frozen)

    def parts(self) -> Sequence[Part]:
        learns = ("train", "validation")
        standardize = self.classifier.standardize or self.regressor.standardize
        own = [*(["normaliser", "imputer"] if standardize else []), "selection", "parameters"]
        return [Part(name, learns) for name in own] + [Part("encoder", run=self.pretrained)] * bool(self.pretrained)

    def _reads(self, layout: Layout) -> Layout:
        layout = without_events(layout, "a tabular model")
        return layout if self.encoder is not None else replace(layout, modalities=(), grids=())

    def _pretrained(self, layout: Layout, examples: Examples, splits: Sequence[Split]) -> Embeddings | None:
        if self.pretrained is None:
            return None
        run = Pretrained.read(self.pretrained)
        run.keep_from(examples.cohort, splits)
        return Embeddings(run.encoders(self.encoder, layout))

    def _afford(self, examples: Examples, layout: Layout) -> None:
        """Raise UserError where the table and a fit to it would take more memory than is allowed."""
        rows, features = size_of(examples, layout)
        if rows < MANY:
            return
        table = rows * features * 5  # a number in single precision, and whether it was observed
        kinds = {target.levels if isinstance(target, Categorical) else None: target for target in layout.measured}
        for target in kinds.values():
            part = "classifier" if isinstance(target, Categorical) else "regressor"
            try:
                fit = max(program.bytes(rows, features) for program in self._programs(target))
            except UserError as error:
                raise UserError(f"model.{part}.estimator cannot be fitted to {rows} rows: {error}") from error
            if table + fit > self.max_memory_gb * 1e9:
                raise UserError(
                    f"the {part} of {target.name!r} would take about {(table + fit) / 1e9:.1f} GB for {rows} rows of "
                    f"{features} features, and model.max_memory_gb={self.max_memory_gb:g} are allowed; "
                    "raise it where the machine has so much, hide variables (data.hidden), or have fewer queries "
                    "(task=next_visit)"
                )

    def _programs(self, target: Measured) -> list[Program]:
        match target:
            case Number():
                return self.regressor.programs(0)
            case Categorical():
                return self.classifier.programs(len(target.levels))
            case _:
                assert_never(target)

    def _fits(self, target: Measured) -> int:
        """How many fits a target takes: every candidate on all folds, and the best one."""
        return sum(len(program.settings) for program in self._programs(target)) * self.folds + 1

    def _learn(
        self,
        table: Table,
        target: Measured,
        learns: Bool[np.ndarray, " s"],
        key: Key[Array, ""],
        done: Callable[[int], None],
    ) -> tuple[Learnt, HeldOut | None]:
        """Fit a target; for a number also return the chosen candidate's quantiles for subjects left out."""
        usable = table.known[target.name] & learns[table.subject]
        count = len(np.unique(table.subject[usable]))
        if count < 2:
            raise UserError(f"{target.name} is known of {count} training subjects; choosing a model needs 2 or more")
        weight = usable.astype(float)
        if self.weight_by == "subject":
            weight /= np.maximum(np.bincount(table.subject, usable), 1)[table.subject]
        fold = folds(table.subject, weight, min(self.folds, count), key)
        truth = table.truth[target.name]
        match target:
            case Number():
                middle = float(np.average(truth, weights=np.where(usable, weight, 0)))
                start = np.full(len(truth), middle)
                if self._differs(target):
                    start = _start(*table.last[target.name], middle)
                spread = float((truth - start)[usable].std()) or 1.0
                scorer = NumberLoss(usable, (truth - start) / spread, weight)
            case Categorical():
                middle, start, spread = 0.0, np.zeros(len(truth)), 1.0
                scorer = ClassLoss(usable, truth, weight)
            case _:
                assert_never(target)
        y = jnp.asarray(scorer.truth, jnp.int32 if isinstance(target, Categorical) else jnp.float32)
        rows = Rows(table.x, table.observed, y, weight, fold)
        choice = choose(self._programs(target), rows, scorer.loss, key, done)
        params = jax.block_until_ready(choice.program.fit(choice.candidate, rows, key))
        done(1)
        learnt = Learnt(
            program=choice.program,
            candidate=choice.candidate,
            params=params,
            differs=self._differs(target),
            middle=middle,
            around=scorer.around(choice.left_out),
            learnt_from=int(usable.sum()),
            table_rows=len(truth),
            scores=choice.scores,
            spread=spread,
        )
        if isinstance(target, Categorical):
            return learnt, None
        quantiles = np.asarray(learnt.quantiles(choice.left_out[usable], start[usable]))
        return learnt, HeldOut(quantiles, truth[usable], table.subject[usable], table.horizon[usable])

    def _differs(self, target: Measured) -> bool:
        return self.residual and target.seen and isinstance(target, Number)

    def _blank(self, target: Measured, saved: Mapping, features: int, path: Path) -> Learnt:
        """A fitted target without its parameters, whose shapes stand in their place."""
        if target.name not in saved:
            raise UserError(f"the model at {path} was fitted on {list(saved)}, not on {target.name}; name another run")
        facts = dict(saved[target.name])
        settings, shapes = json.dumps(facts.pop("settings")), facts.pop("shapes", None)
        facts["scores"] = [(own, score) for own, score in facts["scores"]]
        for program in self._programs(target):
            for candidate, own in enumerate(program.settings):
                if json.dumps(own) == settings:
                    like = _shaped(program.like(candidate, facts["table_rows"], features), shapes)
                    return Learnt(program=program, candidate=candidate, params=like, **facts)
        raise UserError(f"the model at {path} chose {settings} for {target.name}, which is not in its grid any more")


@dataclass(frozen=True)
class FittedTabular(Fitted):
    """Fitted targets by name, and the frozen encoders if scans are read."""

    layout: Layout
    learnt: Mapping[str, Learnt]
    frozen: Embeddings | None

    @property
    def chosen(self) -> Mapping[str, Any]:
        return {name: one.settings for name, one in self.learnt.items()}

    @property
    def notes(self) -> Sequence[str]:
        short = {name: one.program.estimator.shortfall(one.params) for name, one in self.learnt.items()}
        return [f"{name}: {what}" for name, what in short.items() if what]

    @cached_property
    def _features(self) -> Layout:
        return self.layout if self.frozen is None else self.frozen.layout(self.layout)

    def predict(self, history: Visits, query: Query) -> Forecast:
        history = replace(history, scans={}) if self.frozen is None else self.frozen.visits(history)
        x, observed = history_features(history, query, self._features)
        return {t.name: self._one(t, x, observed, history, query) for t in self.layout.measured}

    def save(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        weights = {} if self.frozen is None else self.frozen.weights
        save_arrays(path / "params", ({name: one.params for name, one in self.learnt.items()}, weights))
        (path / "chosen.json").write_text(json.dumps({name: one.facts() for name, one in self.learnt.items()}))

    def _one(self, target: Measured, x: Array, observed: Array, history: Visits, query: Query) -> Classes | Values:
        learnt, shape = self.learnt[target.name], x.shape[:2]
        start = jnp.full(shape, learnt.middle)
        if learnt.differs:
            start = _start(*last_value(history, query, target.index), learnt.middle)
        flat, seen, start = (a.reshape(-1, *a.shape[2:]) for a in (x, observed, jnp.asarray(start)))
        predicted = learnt.predict(flat, seen, start)
        predicted = predicted.reshape(*shape, predicted.shape[-1])
        return Classes(predicted) if isinstance(target, Categorical) else Values(predicted)


def _start(value: Arr, has: Arr, middle: float) -> Float[Arr, "..."]:
    """The value from which a change is counted."""
    where = np.where if isinstance(value, np.ndarray) else jnp.where
    return where(has, value, middle)


def _shaped(like: PyTree, shapes: Sequence[Sequence[int]] | None) -> PyTree:
    """The same tree in the shapes that were saved, where they were."""
    leaves, tree = jax.tree.flatten(like)
    if shapes is None:
        return like
    return tree.unflatten([jnp.zeros(own, leaf.dtype) for own, leaf in zip(shapes, leaves, strict=True)])


def _row(member: int, members: int, learnt: Mapping[str, Learnt]) -> dict[str, Any]:
    """The log entry of a member: `validation` is the sum of its losses on subjects left out."""
    return {
        "member": member,
        "step": member + 1,
        "of": members,
        "train": float("nan"),
        "validation": sum(one.score for one in learnt.values()),
        "chosen": {name: dict(one.settings) for name, one in learnt.items()},
        "scores": {name: list(one.scores) for name, one in learnt.items()},
    }
