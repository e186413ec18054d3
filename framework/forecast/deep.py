"""The deep forecaster: one network, trained for all members side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Key, PyTree

from framework.data.batch import Loader
from framework.data.examples import Examples
from framework.data.split import Split
from framework.forecast.base import Fitted, Forecaster, Log
from framework.history import at_origin, last_observed
from framework.nn.model import Model
from framework.train.checkpoint import load_arrays, save_arrays
from framework.train.loop import Training, train
from framework.train.meter import Cost
from framework.train.optimizer import Dynamic
from framework.train.step import Program
from framework.types import Column, Forecast, Layout, Query, Target, Visits


@dataclass(frozen=True)
class Deep(Forecaster):
    """Encoder and head (made by partials, see conf/model) with an output layer of `width`, trained as `training` says.

    `encoder` is one image encoder for each modality, None to use the clinical variables alone; `augment` varies
    the scans it is trained on.
    """

    encoder: Any
    augment: Any
    head: Any
    training: Training
    width: int

    def fit_many(
        self,
        examples: Examples,
        splits: Sequence[Split],
        keys: Key[Array, " m"],
        dynamics: Dynamic | None = None,
        folder: Path | None = None,
        log: Log = lambda row: None,
    ) -> list[Fitted]:
        layout = self._reads(examples.layout)
        examples = replace(examples, layout=layout)
        program = self._program(layout)
        if dynamics is None:
            one = self.training.dynamic(len(layout.targets))
            alike: Dynamic = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(splits), *x.shape)), one)
            dynamics = alike
        statistics = _stack([_statistics(examples, split) for split in splits], program.initial(keys)[1])
        loader = Loader(examples, self.training.cache_bytes)
        params, cost = train(program, self.training, loader, splits, dynamics, statistics, keys, folder, log)
        ask = jax.jit(program.forecast)
        lanes = [jax.tree.map(lambda x, m=m: x[m], (params, statistics)) for m in range(len(splits))]
        return [FittedDeep(layout, ask, own, moments, cost) for own, moments in lanes]

    def load(self, path: Path, layout: Layout) -> Fitted:
        layout = self._reads(layout)
        program = self._program(layout)
        members, statistics = program.initial(jax.random.split(jax.random.key(0), 1))
        each = jax.tree.map(lambda x: jnp.repeat(x, len(layout.targets), axis=0), members.params)
        params, statistics = load_arrays(path, (each, jax.tree.map(lambda x: x[0], statistics)))
        return FittedDeep(layout, jax.jit(program.forecast), params, statistics)

    def _reads(self, layout: Layout) -> Layout:
        return layout if self.encoder is not None else replace(layout, modalities=(), grids=())

    def _program(self, layout: Layout) -> Program:
        def build(rngs: nnx.Rngs) -> Model:
            return Model(layout, self.encoder, self.head, self.width, rngs=rngs)

        return Program(
            build,
            tuple(t.name for t in layout.targets),
            self.augment,
            self.training.clip,
            self.training.warmup,
            self.training.steps,
        )


@dataclass(frozen=True)
class FittedDeep(Fitted):
    """A trained network: its parameters, and the statistics of its training subjects."""

    layout: Layout
    ask: Callable[..., Forecast]
    params: PyTree
    statistics: PyTree
    cost: Cost | None = None

    def predict(self, history: Visits, query: Query) -> Forecast:
        return self.ask(self.params, self.statistics, history, query)

    def save(self, path: Path) -> None:
        save_arrays(path, (self.params, self.statistics))


def _statistics(examples: Examples, split: Split) -> dict[str, np.ndarray]:
    """Means and scales of the training subjects, by the name of the model's statistic."""
    cohort, layout, asked = examples.cohort, examples.layout, examples.asked
    rows = split.train
    seen = cohort.observed[rows] & cohort.valid[rows, :, None]
    found = {
        "tabular": _moments(cohort.values[rows], seen, layout.inputs),
        "static": _moments(cohort.static[rows], cohort.static_observed[rows], layout.static),
    }
    columns = tuple(replace(column, index=i) for i, column in enumerate(layout.known))
    valid = np.broadcast_to(asked.query.valid[rows, :, None], asked.query.known[rows].shape)
    found["known"] = _moments(np.asarray(asked.query.known[rows]), valid, columns)
    target = _moments(cohort.values[rows], seen, layout.targets)
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
        some = values[..., column.index][observed[..., column.index]]
        if len(some):
            mean[place], scale[place] = some.mean(), some.std() or 1
    return mean, scale


def _change(examples: Examples, target: Target, rows: Bool[np.ndarray, " n"], spread: float) -> float:
    """The spread of a value's change from its last observation to what is asked about; its own spread failing that."""
    cohort, asked = examples.cohort, examples.asked
    observed = (cohort.observed & cohort.valid[..., None])[rows, :, target.index, None]
    value, has, _ = last_observed(cohort.values[rows, :, target.index, None], observed, cohort.times[rows])
    value, has = (np.asarray(at_origin(x, asked.query.origin[rows]))[..., 0] for x in (value, has))
    truth = asked.truth[target.name]
    pairs = truth.observed[rows] & has
    change = (truth.value[rows] - value)[pairs]
    return float(np.sqrt((change**2).mean()) or spread) if len(change) else float(spread)


def _stack(found: Sequence[dict[str, np.ndarray]], like: PyTree) -> PyTree:
    """The fitted statistics of all members, in the shape of the model's state."""

    def one(path: tuple, leaf: jax.Array) -> jax.Array:
        name = ".".join(str(getattr(key, "key", getattr(key, "name", ""))) for key in path).removesuffix(".value")
        return jnp.asarray(np.stack([member[name] for member in found]), leaf.dtype)

    return jax.tree_util.tree_map_with_path(one, like)
