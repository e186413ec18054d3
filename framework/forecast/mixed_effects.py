"""Linear mixed effects as a forecaster: the population's course, and each subject's own distance from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, Bool, Float, Key, PyTree

from framework.baselines import mixed
from framework.baselines.logistic import Logistic
from framework.baselines.mixed import Mixed
from framework.baselines.prepare import Prepared
from framework.data.examples import Examples
from framework.data.split import Split
from framework.errors import UserError
from framework.forecast.base import Fitted, Forecaster, Log, Part
from framework.forecast.kinds import without_events
from framework.history import at_origin, last_observed
from framework.train.checkpoint import load_arrays, save_arrays
from framework.train.optimizer import Dynamic
from framework.types import LEVELS, Arr, Classes, Column, Forecast, Layout, Query, Target, Values, Visits, pytree

CHUNK = 256  # subjects whose training questions are answered at once


@pytree
class Scales:
    """Means and spreads that bring time (2,), covariates (2, c) and outcomes (2, o) to unit spread."""

    time: Float[Arr, "2"]
    covariates: Float[Arr, "2 c"]
    outcomes: Float[Arr, "2 o"]


@pytree
class Learnt:
    """The scales, a model for each outcome (leading axis o), and what outcomes foretell of each target with levels."""

    scales: Scales
    models: Mixed
    levels: Mapping[str, PyTree]


@dataclass(frozen=True)
class MixedEffects(Forecaster):
    """For each target a random intercept, with `trends` a random slope in time, and fixed effects of time, with
    `covariates` of the static variables, with `known` of those known ahead (age at the visit asked about).

    A number's quantiles are those of the normal with the conditional mean and variance given the target's own history
    up to the origin; of a target whose history is no input nothing is seen, and the population's course is told.
    A target with levels is modelled as a number: by its level's place where they are ordered or two, else by one
    number a level, 1 or 0. Logistic regression of training subjects' later visits on what the normal foretold of them
    turns that into probabilities, so that levels are told about as often as they come. Training and validation
    subjects are read, for nothing is chosen on the latter.
    """

    trends: bool
    covariates: bool
    known: bool

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
        return [
            FittedMixedEffects(layout, self, self._learn(examples, layout, split.train | split.validation, key))
            for split, key in zip(splits, keys, strict=True)
        ]

    def load(self, path: Path, layout: Layout) -> Fitted:
        layout = self._reads(layout)
        return FittedMixedEffects(layout, self, load_arrays(path, self._blank(layout)))

    def parts(self) -> Sequence[Part]:
        return [Part(name, ("train", "validation")) for name in ("normaliser", "parameters", "calibration")]

    def _reads(self, layout: Layout) -> Layout:
        return replace(without_events(layout, "a mixed-effects model"), modalities=(), grids=())

    def _learn(self, examples: Examples, layout: Layout, learns: Bool[np.ndarray, " n"], key: Key[Array, ""]) -> Learnt:
        history, seen = _history(examples), np.asarray(examples.cohort.observed & examples.cohort.valid[..., None])
        for target in layout.targets:
            count = int(seen[learns][..., target.index].any(1).sum())
            if count < 2:
                raise UserError(f"{target.name} is known of {count} training subjects; mixed effects need 2 or more")
        raw, has = (np.asarray(part) for part in _at_visits(self, layout, history))
        y, told = (np.asarray(part) for part in _outcomes(layout, history))
        valid = np.asarray(history.valid) & learns[:, None]
        scales = Scales(
            _scale(np.asarray(history.times)[valid][:, None], np.ones((valid.sum(), 1), bool))[:, 0],
            _scale(raw[valid], has[valid]),
            _scale(y[valid], told[valid]),
        )
        weight = learns.astype(np.float32)
        models = _fit(self, layout, scales, history, weight)
        learnt = Learnt(scales, models, {})
        levels = [target for target in layout.targets if target.levels]
        told = _in_chunks(self, layout, learnt, history, examples.taught.query) if levels else ()
        return replace(
            learnt, levels={t.name: self._calibrated(examples, layout, t, told, learns, key) for t in levels}
        )

    def _calibrated(
        self,
        examples: Examples,
        layout: Layout,
        target: Target,
        told: Sequence[np.ndarray],
        learns: np.ndarray,
        key: Key[Array, ""],
    ) -> PyTree:
        truth = examples.taught.truth[target.name]
        counts = (truth.observed & examples.taught.query.valid & learns[:, None]).astype(np.float32)
        mean, variance = (jnp.asarray(part[..., _places(layout)[target.name]]) for part in told)
        x = _clues(target, mean, variance).reshape(counts.size, -1)
        level = np.where(truth.observed, truth.value, 0).astype(np.int32).reshape(-1)
        return _levels(target).fit(x, np.ones(x.shape, bool), level, counts.reshape(-1), key=key)

    def _blank(self, layout: Layout) -> Learnt:
        """Parameters of the right shapes."""
        width, outcomes, effects = _width(self, layout), _count(layout), 1 + self.trends
        scales = Scales(jnp.zeros(2), jnp.zeros((2, width)), jnp.zeros((2, outcomes)))
        p = 2 + width
        models = Mixed(
            jnp.zeros((outcomes, p)),
            jnp.zeros((outcomes, effects, effects)),
            jnp.zeros(outcomes),
            jnp.zeros((outcomes, p, p)),
        )

        def blank(target: Target) -> PyTree:
            x = jnp.zeros((1, len(target.levels)))
            rows = (x, jnp.ones(x.shape, bool), jnp.zeros(1, int), jnp.ones(1))
            shapes = jax.eval_shape(lambda: _levels(target).fit(*rows, key=jax.random.key(0)))
            return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        return Learnt(scales, models, {t.name: blank(t) for t in layout.targets if t.levels})


@dataclass(frozen=True)
class FittedMixedEffects(Fitted):
    """What was learnt, and how to read it."""

    layout: Layout
    recipe: MixedEffects
    learnt: Learnt

    def predict(self, history: Visits, query: Query) -> Forecast:
        seen = replace(history, scans={})
        return _forecast(self.recipe, self.layout, self.learnt, seen, query)

    def save(self, path: Path) -> None:
        save_arrays(path, self.learnt)


@partial(jax.jit, static_argnums=(0, 1))
def _forecast(recipe: MixedEffects, layout: Layout, learnt: Learnt, history: Visits, query: Query) -> Forecast:
    mean, variance = _conditional(recipe, layout, learnt, history, query)
    places, told = _places(layout), {}
    for target in layout.targets:
        own = mean[..., places[target.name]]
        if target.levels:
            x = _clues(target, own, variance[..., places[target.name]]).reshape(-1, len(target.levels))
            probs = _levels(target).predict(learnt.levels[target.name], x, jnp.ones(x.shape, bool))
            told[target.name] = Classes(probs.reshape(*own.shape[:-1], len(target.levels)))
        else:
            spread = jnp.sqrt(variance[..., places[target.name]])
            told[target.name] = Values(own + spread * ndtri(jnp.asarray(LEVELS)))
    return told


@partial(jax.jit, static_argnums=(0, 1))
def _fit(recipe: MixedEffects, layout: Layout, scales: Scales, history: Visits, weight: Arr) -> Mixed:
    """A model for each outcome, one after the other: alone or beside others the arithmetic is the same."""
    x, z = _design(recipe, scales, jnp.asarray(history.times), *_at_visits(recipe, layout, history))
    y, seen = _outcomes(layout, history)
    y = (y - scales.outcomes[0]) / scales.outcomes[1]
    return lax.map(lambda one: mixed.fit(x, z, *one, weight), (jnp.moveaxis(y, -1, 0), jnp.moveaxis(seen, -1, 0)))


@partial(jax.jit, static_argnums=(0, 1))
def _conditional(
    recipe: MixedEffects, layout: Layout, learnt: Learnt, history: Visits, query: Query
) -> tuple[Float[Array, "b q o"], Float[Array, "b q o"]]:
    """Means and variances of the outcomes at the queries, in the outcomes' units."""
    scales, visits = learnt.scales, jnp.arange(history.times.shape[1])
    x, z = _design(recipe, scales, jnp.asarray(history.times), *_at_visits(recipe, layout, history))
    x_asked, z_asked = _design(recipe, scales, jnp.asarray(query.time), *_at_queries(recipe, layout, history, query))
    y, seen = _outcomes(layout, history)
    seen = seen & jnp.array([t.seen for t in layout.targets for _ in range(_numbers(t))])
    y = (y - scales.outcomes[0]) / scales.outcomes[1]
    until = visits <= jnp.asarray(query.origin)[..., None]  # (b, q, t)

    def of_outcome(model: Mixed, y: Array, seen: Array) -> tuple[Array, Array]:
        def of_subject(x, z, y, seen, until, x_asked, z_asked):
            ask = partial(mixed.conditional, model, x, z, y)
            return jax.vmap(lambda until, xq, zq: ask(seen & until, xq, zq))(until, x_asked, z_asked)

        return jax.vmap(of_subject)(x, z, y, seen, until, x_asked, z_asked)

    mean, variance = jax.vmap(of_outcome, (0, 2, 2), 2)(learnt.models, y, seen)
    return scales.outcomes[0] + scales.outcomes[1] * mean, scales.outcomes[1] ** 2 * variance


def _design(
    recipe: MixedEffects, scales: Scales, times: Array, covariates: Array, has: Array
) -> tuple[Float[Array, "b t p"], Float[Array, "b t r"]]:
    """The columns of the fixed and of the subjects' own effects; a missing covariate stands at its mean."""
    time = ((times - scales.time[0]) / scales.time[1])[..., None]
    more = jnp.where(has, (covariates - scales.covariates[0]) / scales.covariates[1], 0)
    own = jnp.concatenate([jnp.ones_like(time), time], -1)
    return jnp.concatenate([own, more], -1), own if recipe.trends else own[..., :1]


def _at_visits(recipe: MixedEffects, layout: Layout, history: Visits) -> tuple[Array, Array]:
    """Covariates at each visit, and whether they are there: what is known ahead is carried on from when last seen."""
    known, has, when = _carried(layout, history)
    rates = jnp.array([column.per_year or 0.0 for column in layout.known])
    times = jnp.asarray(history.times)[..., None]
    return _columns(recipe, layout, history, jnp.where(has, known + rates * (times - when), 0), has)


def _at_queries(recipe: MixedEffects, layout: Layout, history: Visits, query: Query) -> tuple[Array, Array]:
    """The same at each query; a variable never seen is told as 0."""
    has = at_origin(_carried(layout, history)[1], jnp.asarray(query.origin)) | (jnp.asarray(query.known) != 0)
    return _columns(recipe, layout, history, jnp.asarray(query.known), has)


def _carried(layout: Layout, history: Visits) -> tuple[Array, Array, Array]:
    some = jnp.array([column.index for column in layout.known], int)
    seen = jnp.asarray(history.observed)[..., some] & jnp.asarray(history.valid)[..., None]
    return last_observed(jnp.asarray(history.values)[..., some], seen, jnp.asarray(history.times))


def _columns(recipe: MixedEffects, layout: Layout, history: Visits, known: Array, has: Array) -> tuple[Array, Array]:
    """Static and known-ahead variables side by side at each of (b, t) moments."""
    values, masks = [jnp.zeros((*known.shape[:2], 0))], [jnp.zeros((*known.shape[:2], 0), bool)]

    def add(column: Column, value: Array, mask: Array) -> None:
        numbers = jax.nn.one_hot(value.astype(int), column.classes)[..., 1:] if column.classes > 2 else value[..., None]
        values.append(jnp.where(mask[..., None], numbers, 0))
        masks.append(jnp.broadcast_to(mask[..., None], numbers.shape))

    for column in layout.static if recipe.covariates else ():
        value, mask = (jnp.asarray(part)[:, None, column.index] for part in (history.static, history.static_observed))
        add(column, *(jnp.broadcast_to(part, known.shape[:2]) for part in (jnp.where(mask, value, 0), mask)))
    for place, column in enumerate(layout.known if recipe.known else ()):
        add(column, known[..., place], has[..., place])
    return jnp.concatenate(values, -1), jnp.concatenate(masks, -1)


def _width(recipe: MixedEffects, layout: Layout) -> int:
    columns = (layout.static if recipe.covariates else ()) + (layout.known if recipe.known else ())
    return sum(column.classes - 1 if column.classes > 2 else 1 for column in columns)


def _outcomes(layout: Layout, history: Visits) -> tuple[Array, Array]:
    """The targets as numbers (b, t, o), and where they were seen."""
    values, masks = [], []
    for target in layout.targets:
        seen = jnp.asarray(history.observed)[..., target.index] & jnp.asarray(history.valid)
        value = jnp.where(seen, jnp.asarray(history.values)[..., target.index], 0)
        count = _numbers(target)
        values.append(value[..., None] if count == 1 else jax.nn.one_hot(value.astype(int), count))
        masks.append(jnp.broadcast_to(seen[..., None], values[-1].shape))
    return jnp.concatenate(values, -1), jnp.concatenate(masks, -1)


def _numbers(target: Target) -> int:
    """How many numbers a target is modelled as."""
    return len(target.levels) if len(target.levels) > 2 and not target.ordered else 1


def _count(layout: Layout) -> int:
    return sum(map(_numbers, layout.targets))


def _places(layout: Layout) -> dict[str, np.ndarray]:
    """Where each target's numbers stand among the outcomes."""
    ends = np.cumsum([_numbers(target) for target in layout.targets])
    return {t.name: np.arange(end - _numbers(t), end) for t, end in zip(layout.targets, ends, strict=True)}


def _clues(target: Target, mean: Float[Array, "b q k"], variance: Float[Array, "b q k"]) -> Float[Array, "b q d"]:
    """What probabilities are learnt from: of one number, how likely the normal makes it round to each level (log)."""
    if _numbers(target) > 1:
        return mean
    cuts = jnp.arange(len(target.levels) - 1) + 0.5
    below = ndtr((cuts - mean) / jnp.sqrt(variance))
    edges = jnp.concatenate([jnp.zeros_like(mean), below, jnp.ones_like(mean)], -1)
    return jnp.log(jnp.maximum(jnp.diff(edges, axis=-1), 1e-3))


def _levels(target: Target) -> Prepared:
    return Prepared(Logistic(len(target.levels)))


def _scale(values: Float[np.ndarray, "n c"], seen: Bool[np.ndarray, "n c"]) -> Float[np.ndarray, "2 c"]:
    found = np.zeros((2, values.shape[1]))
    for place in range(values.shape[1]):
        some = values[seen[:, place], place].astype(float)
        found[:, place] = (some.mean(), some.std() or 1) if len(some) else (0, 1)
    return found.astype(np.float32)


def _history(examples: Examples) -> Visits:
    cohort = examples.cohort
    times, values, static = (np.asarray(part, np.float32) for part in (cohort.times, cohort.values, cohort.static))
    return Visits(times, cohort.valid, {}, values, cohort.observed, static, cohort.static_observed)


def _in_chunks(recipe: MixedEffects, layout: Layout, learnt: Learnt, history: Visits, query: Query) -> list[np.ndarray]:
    """Conditional means and variances of all subjects' outcomes at their questions."""
    query = jax.tree.map(lambda part: part.astype(np.float32) if part.dtype == np.float64 else part, query)
    parts = []
    for start in range(0, len(history.times), CHUNK):
        some = jax.tree.map(lambda part, start=start: part[start : start + CHUNK], (history, query))
        parts.append([np.asarray(part) for part in _conditional(recipe, layout, learnt, *some)])
    return [np.concatenate(part) for part in zip(*parts, strict=True)]
