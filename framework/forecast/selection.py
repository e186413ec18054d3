"""Candidates of a tabular forecaster, and the choice among them by subjects left out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from framework.baselines.base import Estimator
from framework.baselines.prepare import Prepared, moments
from framework.errors import UserError
from framework.types import Arr

Settings = Mapping[str, Any]
Loss = Callable[[Float[np.ndarray, "n p"]], float]


@dataclass(frozen=True)
class Candidates:
    """An estimator (a partial that wants `classes`) at every combination of the settings in `grid`.

    `prepared` standardises the features and puts what is missing at its mean; `indicators` then says what was missing.
    """

    estimator: Any
    grid: Mapping[str, Sequence[Any]]
    prepared: bool
    indicators: bool

    def __post_init__(self):
        empty = [name for name, options in self.grid.items() if not options]
        if empty:
            raise UserError(f"grid.{empty[0]} is empty; expected one or more values to choose from")

    def programs(self, classes: int) -> list["Program"]:
        """The candidates for a target of so many levels (0: a number); those that trace as one are one program."""
        made: Estimator = partial(self.estimator, **_frozen(getattr(self.estimator, "keywords", {})))(classes=classes)
        unknown = [name for name in self.grid if not hasattr(made, name)]
        if unknown:
            raise UserError(f"{type(made).__name__} has no setting {unknown[0]!r} to put in its grid; remove it")
        whole = Prepared(made, self.indicators) if self.prepared else made
        fixed = [name for name in self.grid if name not in made.DYNAMIC]
        free = [name for name in self.grid if name in made.DYNAMIC]
        return [
            Program(whole.given(own), [own | one for one in combinations(self.grid, free)], free)
            for own in combinations(self.grid, fixed)
        ]


@dataclass(frozen=True)
class Rows:
    """What one target is learnt from: rows of weight 0 teach nothing, `fold` says who is left out together."""

    x: Float[Arr, "n f"]
    observed: Bool[Arr, "n f"]
    y: Float[Arr, " n"] | Int[Arr, " n"]
    weight: Float[np.ndarray, " n"]
    fold: Int[np.ndarray, " n"]


@dataclass(frozen=True)
class Program:
    """Candidates that differ in traced settings alone, `free`; `settings` are those of each candidate."""

    estimator: Estimator
    settings: Sequence[Settings]
    free: Sequence[str]

    def left_out(
        self, rows: Rows, key: Key[Array, ""], done: Callable[[int], None] = lambda fits: None
    ) -> Float[np.ndarray, "c n p"]:
        """What each candidate says of every row, fitted on the other folds; `done` hears of so many fits."""
        own, told = self._traced(self.settings), []
        for fold, one in enumerate(jax.random.split(key, int(rows.fold.max()) + 1)):
            weight = jnp.asarray(np.where(rows.fold == fold, 0, rows.weight), jnp.float32)
            keys = jnp.broadcast_to(one, (len(self.settings),))
            said = _left_out(self.estimator, rows.x, rows.observed, rows.y, weight, keys, own)
            told.append(np.asarray(said))  # which waits for it
            done(len(self.settings))
        whole = np.stack(told).astype(np.float64)
        return whole[np.maximum(rows.fold, 0), :, np.arange(len(rows.fold))].swapaxes(0, 1)

    def fit(self, candidate: int, rows: Rows, key: Key[Array, ""]) -> PyTree:
        """The parameters of one candidate, fitted on all rows."""
        weight = jnp.asarray(rows.weight, jnp.float32)
        return _fit(self.estimator, self.own(candidate), rows.x, rows.observed, rows.y, weight, key)

    def own(self, candidate: int) -> dict[str, Array]:
        """The traced settings of one candidate."""
        return {name: values[0] for name, values in self._traced([self.settings[candidate]]).items()}

    def like(self, candidate: int, rows: int, features: int, classes: int) -> PyTree:
        """Zeros in the shapes of the parameters after a fit to so many rows."""
        x = jax.ShapeDtypeStruct((rows, features), jnp.float32)
        observed = jax.ShapeDtypeStruct(x.shape, bool)
        y = jax.ShapeDtypeStruct((rows,), jnp.int32 if classes else jnp.float32)
        weight = jax.ShapeDtypeStruct((rows,), jnp.float32)
        settings, key = self.own(candidate), jax.random.key(0)
        shapes = jax.eval_shape(partial(_fit, self.estimator), settings, x, observed, y, weight, key)
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def predict(
        self, candidate: int, params: PyTree, x: Float[Arr, "n f"], observed: Bool[Arr, "n f"]
    ) -> Float[Array, "n p"]:
        return _predict(self.estimator, params, self.own(candidate), x, observed)

    def _traced(self, settings: Sequence[Settings]) -> dict[str, Array]:
        return {name: jnp.array([one[name] for one in settings], jnp.float32) for name in self.free}


@dataclass(frozen=True)
class Choice:
    """The best candidate: its program, its place there, what it said of rows left out, and what each one scored."""

    program: Program
    candidate: int
    left_out: Float[np.ndarray, "n p"]
    scores: Sequence[tuple[Settings, float]]

    @property
    def score(self) -> float:
        return min(score for _, score in self.scores)


def choose(
    programs: Sequence[Program],
    rows: Rows,
    loss: Loss,
    key: Key[Array, ""],
    done: Callable[[int], None] = lambda fits: None,
) -> Choice:
    """The candidate of the least loss on rows left out, the first of equals; `done` hears of so many fits.

    Raises UserError where no loss is finite.
    """
    best: tuple[float, Program, int, np.ndarray] | None = None
    scores = []
    for program in programs:
        for candidate, told in enumerate(program.left_out(rows, key, done)):
            score = loss(told)
            scores.append((program.settings[candidate], score))
            if np.isfinite(score) and (best is None or score < best[0]):
                best = score, program, candidate, told
    if best is None:
        raise UserError(f"none of {len(scores)} candidates gave a finite forecast; widen the grid, or take another")
    return Choice(*best[1:], scores)


def folds(subject: Int[np.ndarray, " n"], weight: Float[np.ndarray, " n"], count: int, key: Key[Array, ""]):
    """For each row the fold that leaves its subject out, -1 where it weighs nothing; at most one fold a subject."""
    known = np.unique(subject[weight > 0])
    order = np.random.default_rng(np.asarray(jax.random.key_data(key))).permutation(known)
    of = np.full(subject.max() + 1, -1)
    of[order] = np.arange(len(order)) % count
    return np.where(weight > 0, of[subject], -1)


def combinations(grid: Mapping[str, Sequence[Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Every combination of the values that a grid has for these names."""
    return [dict(zip(names, values, strict=True)) for values in product(*(_frozen(grid)[name] for name in names))]


def _frozen(value: Any) -> Any:
    """With tuples for lists, because what shapes a program is hashed."""
    if isinstance(value, Mapping):
        return {name: _frozen(item) for name, item in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


@partial(jax.jit, static_argnums=0)
def _left_out(estimator: Estimator, x: Arr, observed: Arr, y: Arr, weight: Arr, keys: Array, settings) -> Array:
    """What candidates fitted to the same rows say of all rows: features are prepared, and kernels made, once."""
    if isinstance(estimator, Prepared):
        of = moments(x, observed, weight)
        x = estimator.features(of, x, observed)
        return _left_out(estimator.inner, x, jnp.ones(x.shape, bool), y, weight, keys, settings)
    weights = jnp.broadcast_to(weight, (len(keys), len(weight)))
    params = estimator.fit_many(x, observed, y, weights, keys=keys, settings=settings)
    return lax.map(lambda lane: estimator.given(lane[1]).predict(lane[0], x, observed), (params, settings))


@partial(jax.jit, static_argnums=0)
def _fit(estimator: Estimator, settings, x: Arr, observed: Arr, y: Arr, weight: Arr, key: Array) -> PyTree:
    return estimator.given(settings).fit(x, observed, y, weight, key=key)


@partial(jax.jit, static_argnums=0)
def _predict(estimator: Estimator, params: PyTree, settings, x: Arr, observed: Arr) -> Array:
    return estimator.given(settings).predict(params, x, observed)
