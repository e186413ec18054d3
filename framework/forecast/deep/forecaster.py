"""The deep forecaster: one network, trained for all members side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Bool, Float, PyTree

from framework.baselines.survival.kaplan_meier import right_censored
from framework.data.batches.batch import Loader
from framework.data.cohort.store import Cohort
from framework.data.queries.examples import Examples
from framework.data.queries.layout import without
from framework.data.splits.split import Split
from framework.errors import UserError
from framework.forecast.base import Fitted, Forecaster, Part, Turns
from framework.forecast.calibration.horizon import HeldOut
from framework.forecast.deep.embeddings import Embeddings
from framework.forecast.deep.pretrained import Pretrained
from framework.forecast.fit_request import FitRequest
from framework.forecast.tabular.cross_validation import half_of, held_out_answers
from framework.history import at_origin, last_observed
from framework.image.augment.compose import Compose
from framework.nn.encoders.base import Encoder
from framework.nn.encoders.precomputed import Embedded
from framework.nn.model import Model, NetworkSpec, encoders
from framework.train.array_io import load_arrays, save_arrays
from framework.train.cost.machine import cores
from framework.train.cost.throughput import Cost
from framework.train.loop import Fail, Training, stop, train
from framework.train.optimizer import TracedHyperparameters
from framework.train.step import Program
from framework.types import Column, Event, Forecast, Interval, Layout, Query, Target, Truth, Visits

FILLS = 6e6  # bytes made by a step above which lanes side by side are no cheaper on a CPU (framework/DESIGN.md)


@dataclass(frozen=True)
class Deep(NetworkSpec, Forecaster):
    """A network trained as `training` says; `augment` varies the scans that it is trained on.

    Encoders start from those of the run `pretrained`, None for afresh; `frozen` ones learn no more, and encode each
    scan once. The network does not see the variables and modalities named `hidden`.
    """

    training: Training
    augment: Compose | None
    pretrained: str | None
    frozen: bool
    hidden: Sequence[str]

    def __post_init__(self):
        super().__post_init__()
        if self.pretrained is not None and self.encoder is None:
            raise UserError("model.pretrained needs an image encoder; give the model/encoder it was pretrained with")
        if self.frozen and self.pretrained is None:
            raise UserError("model.frozen=true would keep encoders that learnt nothing; give model.pretrained=<run>")
        if self.frozen and self.augment is not None:
            raise UserError(
                "model.frozen=true encodes each scan once, so that nothing can vary it; add model.augment=null"
            )

    def dynamic(self, layout: Layout) -> TracedHyperparameters:
        return self.training.dynamic(len(layout.targets))

    def member_bytes(self, examples: Examples, splits: Sequence[Split]) -> int:
        if self.frozen:
            return 0  # what is left to train are a few thousand parameters on embeddings
        layout, rows = self._reads(examples.layout), np.flatnonzero(splits[0].train)
        loader = Loader(replace(examples, layout=layout), 0)
        size = loader.size(min(self.training.batch, len(rows)), rows, packed=True)
        batch = loader.drawn(next(loader.pack(rows, size)), size)
        return self._program(layout).bytes_each(self.dynamic(layout), loader.tables({}, size), batch)

    def turns(self, examples: Examples, splits: Sequence[Split]) -> Turns | None:
        """On a CPU a lane costs what the step would cost alone, unless that is so small that starting it costs more;
        and lanes that have stopped early go on costing it."""
        if jax.default_backend() != "cpu" or self.training.mesh.count > 1:
            return None
        if self.encoder is not None and not self.frozen:
            return Turns("a CPU encodes the scans of one after those of another anyway", 1)
        if self.member_bytes(examples, splits) > FILLS:
            return Turns("a step of this size keeps a CPU's core busy by itself", cores())
        return None

    def fit_many(self, request: FitRequest) -> list[Fitted]:
        return [*self._fitted(request, stop)]

    @property
    def forecasts_held_out(self) -> bool:
        """A network that learns to read scans is not trained several times over."""
        return self.encoder is not None and not self.frozen

    def fit_held_out(self, request: FitRequest) -> list[tuple[Fitted, Mapping[str, HeldOut]] | UserError]:
        """Half of the validation subjects are set aside: they do not stop the training."""
        aside = [half_of(split.validation, key) for _, split, key in request.members]
        fitted = self.try_many(request.setting_aside(aside))
        return [
            one if isinstance(one, UserError) else (one, held_out_answers(one, request.examples, out))
            for one, out in zip(fitted, aside, strict=True)
        ]

    def try_many(self, request: FitRequest) -> list[Fitted | UserError]:
        failed: dict[int, str] = {}
        fitted = self._fitted(request, failed.__setitem__)
        return [UserError(failed[m]) if m in failed else one for m, one in enumerate(fitted)]

    def _fitted(self, request: FitRequest, fail: Fail) -> list["FittedDeep"]:
        examples, splits, keys = request.examples, request.splits, request.keys
        layout = self._reads(examples.layout)
        learnt = self._learnt(layout, examples.cohort, splits)
        frozen = Embeddings(learnt) if self.frozen else None
        examples = replace(examples, layout=layout if frozen is None else frozen.layout(layout))
        program = self._program(examples.layout, learnt)
        dynamics = request.dynamics
        if dynamics is None:
            one = self.dynamic(layout)
            alike: TracedHyperparameters = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(splits), *x.shape)), one)
            dynamics = alike
        statistics = _stack([_statistics(examples, split) for split in splits], program.statistics(keys))
        loader = Loader(examples, self.training.cache_bytes, None if frozen is None else frozen.of)
        where = (request.folder, request.log)
        params, cost = train(program, self.training, loader, splits, dynamics, statistics, keys, *where, fail)
        ask = jax.jit(program.forecast)
        lanes = [jax.tree.map(lambda x, m=m: x[m], (params, statistics)) for m in range(len(splits))]
        return [FittedDeep(layout, ask, own, moments, frozen, cost) for own, moments in lanes]

    def load(self, path: Path, layout: Layout) -> Fitted:
        layout = self._reads(layout)
        frozen = Embeddings(encoders(self.encoder, layout, nnx.Rngs(0))) if self.frozen else None
        program = self._program(layout if frozen is None else frozen.layout(layout))
        members, statistics = program.initial(jax.random.split(jax.random.key(0), 1))
        each = jax.tree.map(lambda x: jnp.repeat(x, len(layout.targets), axis=0), members.params)
        like = (each, jax.tree.map(lambda x: x[0], statistics), {} if frozen is None else frozen.weights)
        params, statistics, weights = load_arrays(path, like)
        if frozen is not None:
            frozen.weights = weights
        return FittedDeep(layout, jax.jit(program.forecast), params, statistics, frozen)

    def parts(self) -> Sequence[Part]:
        own = [Part("normaliser", ("train",)), Part("parameters", ("train",)), Part("stopping", ("validation",))]
        return own + [Part("encoder", run=self.pretrained)] * bool(self.pretrained)

    def _reads(self, layout: Layout) -> Layout:
        layout = without(layout, self.hidden)
        return layout if self.encoder is not None else replace(layout, modalities=(), grids=())

    def _learnt(self, layout: Layout, cohort: Cohort, splits: Sequence[Split]) -> dict[str, Encoder]:
        """The pretrained encoder of each modality; none where there is no pretraining."""
        if self.pretrained is None:
            return {}
        run = Pretrained.read(self.pretrained)
        run.keep_from(cohort, splits)
        return run.encoders(self.encoder, layout)

    def _program(self, layout: Layout, learnt: Mapping[str, Encoder] | None = None) -> Program:
        """The network's functions, made once; encoders that have `learnt` before start from there."""
        key = (layout, bool(learnt))  # their parameters depend on the recipe and the layout
        if key in self._made:
            return self._made[key]
        parts = {part.name: getattr(self, part.name) for part in fields(NetworkSpec)}
        spec = NetworkSpec(**parts)
        if self.frozen:
            spec = replace(spec, encoder=Embedded)

        def build(rngs: nnx.Rngs) -> Model:
            model = Model(layout, spec, rngs=rngs)
            for name, start in (learnt or {}).items():
                if not self.frozen:
                    nnx.update(model.encoders[name], nnx.state(start))
            return model

        made = self._made[key] = self.training.program(build, [t.name for t in layout.targets], self.augment)
        return made

    @cached_property
    def _made(self) -> dict[tuple[Layout, bool], Program]:
        return {}


@dataclass(frozen=True)
class FittedDeep(Fitted):
    """A trained network: its parameters, the statistics of its training subjects, its encoders if they are frozen."""

    layout: Layout
    ask: Callable[..., Forecast]
    params: PyTree
    statistics: PyTree
    frozen: Embeddings | None
    cost: Cost | None = None

    def predict(self, history: Visits, query: Query) -> Forecast:
        history = history if self.frozen is None else self.frozen.visits(history)
        return self.ask(self.params, self.statistics, history, query)

    def save(self, path: Path) -> None:
        save_arrays(path, (self.params, self.statistics, {} if self.frozen is None else self.frozen.weights))


def _statistics(examples: Examples, split: Split) -> dict[str, np.ndarray]:
    """Means and scales of the training subjects, by the name of the model's statistic."""
    cohort, layout, queries = examples.cohort, examples.layout, examples.eval_queries
    rows = split.train
    seen = cohort.observed[rows] & cohort.valid[rows, :, None]
    found = {
        "tabular": _moments(cohort.values[rows], seen, layout.inputs),
        "static": _moments(cohort.static[rows], cohort.static_observed[rows], layout.static),
    }
    columns = tuple(replace(column, index=i) for i, column in enumerate(layout.known))
    valid = np.asarray(queries.query.future_observed)[rows] & np.asarray(queries.query.valid)[rows, :, None]
    found["known"] = _moments(np.asarray(queries.query.known[rows]), valid, columns)
    target = _moments(cohort.values[rows], seen, layout.targets)
    for place, outcome in enumerate(examples.train_queries.truth[t.name] for t in layout.targets):
        if isinstance(outcome, Interval):
            target[0][place] = _rate(outcome, rows)
    named = {
        f"{part}.{name}": array
        for part, pair in found.items()
        for name, array in zip(("mean", "scale"), pair, strict=True)
    }
    change = [_change(examples, t, rows, float(spread)) for t, spread in zip(layout.targets, target[1], strict=True)]
    return named | {"target_mean": target[0], "target_scale": target[1], "change_scale": np.array(change, np.float32)}


def _moments(
    values: Float[np.ndarray, "... f"], observed: Bool[np.ndarray, "... f"], columns: Sequence[Column | Target]
) -> tuple[np.ndarray, np.ndarray]:
    mean, scale = np.zeros(len(columns), np.float32), np.ones(len(columns), np.float32)
    for place, column in enumerate(columns):
        if isinstance(column, Event):
            continue  # an event has no values
        some = values[..., column.index][observed[..., column.index]]
        if len(some):
            mean[place], scale[place] = some.mean(), some.std() or 1
    return mean, scale


def _rate(truth: Interval, rows: Bool[np.ndarray, " n"]) -> float:
    """Events a year among the training subjects, an event at the least: none seen is no proof that none can come."""
    known = truth.observed & rows[:, None]
    survival = right_censored(truth.lo[known], truth.hi[known])
    return float(max(survival.event.sum(), 1) / max(survival.time.sum(), 1e-6))


def _change(examples: Examples, target: Target, rows: Bool[np.ndarray, " n"], spread: float) -> float:
    """The spread of a value's change from its last observation to what is asked about; its own spread failing that."""
    if isinstance(target, Event):
        return spread
    truth = examples.eval_queries.truth[target.name]
    assert isinstance(truth, Truth)
    cohort, queries = examples.cohort, examples.eval_queries
    observed = (cohort.observed & cohort.valid[..., None])[rows, :, target.index, None]
    value, has, _ = last_observed(cohort.values[rows, :, target.index, None], observed, cohort.times[rows])
    query = jax.tree.map(lambda x: x[rows], queries.query)
    value, has = (np.asarray(at_origin(x, query))[..., 0] for x in (value, has))
    pairs = truth.observed[rows] & has
    change = (truth.value[rows] - value)[pairs]
    return float(np.sqrt((change**2).mean()) or spread) if len(change) else float(spread)


def _stack(found: Sequence[dict[str, np.ndarray]], like: PyTree) -> PyTree:
    """The fitted statistics of all members, in the shape of the model's state."""

    def one(path: tuple, leaf: jax.Array | jax.ShapeDtypeStruct) -> jax.Array:
        name = ".".join(str(getattr(key, "key", getattr(key, "name", ""))) for key in path).removesuffix(".value")
        return jnp.asarray(np.stack([member[name] for member in found]), leaf.dtype)

    return jax.tree_util.tree_map_with_path(one, like)
