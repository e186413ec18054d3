"""Candidates of a tabular forecaster, and the choice among them by subjects left out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from framework.baselines.base import Estimator
from framework.baselines.prepare import Prepared
from framework.configurable import configurable
from framework.errors import UserError
from framework.types import Arr

Settings = Mapping[str, Any]
Loss = Callable[[Float[np.ndarray, "n p"]], float]


@configurable("candidates")
@dataclass(frozen=True)
class Candidates:
    """An estimator (a partial that wants `classes`) at every combination of the settings in `grid`.

    `standardize` standardises the features and imputes missing values by the mean; `missing_indicators` then tells
    which they are.
    """

    estimator: Callable[..., Estimator]
    grid: Mapping[str, Sequence[Any]]
    standardize: bool
    missing_indicators: bool

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
        whole = Prepared(made, self.missing_indicators) if self.standardize else made
        fixed = [name for name in self.grid if name not in made.DYNAMIC]
        free = [name for name in self.grid if name in made.DYNAMIC]
        return [
            Program(whole.given(own), [own | one for one in combinations(self.grid, free)], free)
            for own in combinations(self.grid, fixed)
        ]


@dataclass(frozen=True)
class Rows:
    """Training rows of one target: rows of weight 0 have no effect, `fold` says which are left out together."""

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
        """Each candidate's prediction of every row, fitted on the other folds; `done` receives the number of fits."""
        own = self._traced(self.settings)
        whole: Float[np.ndarray, "c n p"] | None = None
        for fold, one in enumerate(jax.random.split(key, int(rows.fold.max()) + 1)):
            weight = jnp.asarray(np.where(rows.fold == fold, 0, rows.weight), jnp.float32)
            predicted = np.asarray(_left_out(self.estimator, rows.x, rows.observed, rows.y, weight, one, own))
            done(len(self.settings))  # the line above waited for them
            whole = np.zeros(predicted.shape) if whole is None else whole
            here = np.maximum(rows.fold, 0) == fold
            whole[:, here] = predicted[:, here]
        assert whole is not None  # there is a fold
        return whole

    def fit(self, candidate: int, rows: Rows, key: Key[Array, ""]) -> PyTree:
        """The parameters of one candidate, fitted on all rows."""
        weight = jnp.asarray(rows.weight, jnp.float32)
        own = _fit(self.estimator, self.own(candidate), rows.x, rows.observed, rows.y, weight, key)
        return self.estimator.compacted(own)

    def own(self, candidate: int) -> dict[str, Array]:
        """The traced settings of one candidate."""
        return {name: values[0] for name, values in self._traced([self.settings[candidate]]).items()}

    def like(self, candidate: int, rows: int, features: int) -> PyTree:
        """Zeros in the shapes of the parameters after a fit to so many rows."""
        of = self._like_rows(rows, features)
        shapes = jax.eval_shape(partial(_fit, self.estimator), self.own(candidate), *of, jax.random.key(0))
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def bytes(self, rows: int, features: int) -> int:
        """Memory that selecting a candidate and fitting it take beside the table, by the compiler's account.

        The programs compiled for that are those that run later. Raises UserError where an estimator refuses the size.
        """
        of, key = self._like_rows(rows, features), jax.random.key(0)
        runs = [
            _left_out.lower(self.estimator, *of, key, self._traced(self.settings)),
            _fit.lower(self.estimator, self.own(0), *of, key),
        ]
        used = [run.compile().memory_analysis() for run in runs]
        # a device that gives no account is asked for nothing
        return max(one.temp_size_in_bytes + one.output_size_in_bytes if one else 0 for one in used)

    def predict(
        self, candidate: int, params: PyTree, x: Float[Arr, "n f"], observed: Bool[Arr, "n f"]
    ) -> Float[Array, "n p"]:
        return _predict(self.estimator, params, self.own(candidate), x, observed)

    def _like_rows(self, rows: int, features: int) -> tuple[jax.ShapeDtypeStruct, ...]:
        """x, observed, y and weight of so many rows."""
        x = jax.ShapeDtypeStruct((rows, features), jnp.float32)
        y = jax.ShapeDtypeStruct((rows,), jnp.int32 if self.estimator.classes else jnp.float32)
        weight = jax.ShapeDtypeStruct((rows,), jnp.float32)
        return x, jax.ShapeDtypeStruct(x.shape, bool), y, weight

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
        for candidate, predicted in enumerate(program.left_out(rows, key, done)):
            score = loss(predicted)
            scores.append((program.settings[candidate], score))
            if np.isfinite(score) and (best is None or score < best[0]):
                best = score, program, candidate, predicted
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
def _left_out(estimator: Estimator, x: Arr, observed: Arr, y: Arr, weight: Arr, key: Array, settings) -> Array:
    """The predictions for all rows of candidates fitted to the same weighted ones."""
    return estimator.answer_grid(x, observed, y, weight, key=key, settings=settings)


@partial(jax.jit, static_argnums=0)
def _fit(estimator: Estimator, settings, x: Arr, observed: Arr, y: Arr, weight: Arr, key: Array) -> PyTree:
    return estimator.given(settings).fit(x, observed, y, weight, key=key)


@partial(jax.jit, static_argnums=0)
def _predict(estimator: Estimator, params: PyTree, settings, x: Arr, observed: Arr) -> Array:
    return estimator.given(settings).predict(params, x, observed)
