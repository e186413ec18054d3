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

from framework.baselines.linear.logistic import Logistic
from framework.baselines.mixed import mixed_effects
from framework.baselines.mixed.mixed_effects import Mixed
from framework.baselines.prepare import Prepared
from framework.data.queries.examples import Examples
from framework.forecast.base import Fitted, Forecaster, Part
from framework.forecast.fit_request import FitRequest, Fits
from framework.forecast.mixed.design import Design, Scales, collapse, history_of, known_of_two, numbers
from framework.forecast.target_kinds import without_events
from framework.train.array_io import load_arrays, save_arrays
from framework.types import (
    LEVELS,
    Arr,
    Categorical,
    Classes,
    Forecast,
    Layout,
    Query,
    Truth,
    Values,
    Visits,
    pytree,
)

CHUNK = 256  # subjects whose training queries are answered at once


@pytree
class Learnt:
    """The scales, a model for each outcome (leading axis o), and the calibration of each target with levels."""

    scales: Scales
    models: Mixed
    levels: Mapping[str, PyTree]


@dataclass(frozen=True)
class MixedEffects(Forecaster):
    """For each target a random intercept, with `random_slopes` a random slope in time, and fixed effects of time, with
    `covariates` of the static variables, with `future_covariates` of those known ahead (age at the visit asked about).

    A number's quantiles are those of the normal with the conditional mean and variance given the target's own history
    up to the origin; of a target whose history is no input nothing is seen, and the population's course is forecast.
    A target with levels is modelled as a number: by its level's place where they are ordered or two, else by one
    number a level, 1 or 0. Logistic regression of training subjects' later visits on the predictive normal
    turns that into probabilities, so that levels are forecast about as often as they occur. Training and validation
    subjects are read, for nothing is chosen on the latter.
    """

    random_slopes: bool
    covariates: bool
    future_covariates: bool

    def fit_many(self, request: FitRequest) -> list[Fitted]:
        """One member after the other; all of them run the same programs."""
        layout = self._reads(request.examples.layout)
        made: list[Fitted] = []
        fits = Fits(request.log, len(request))
        for member, split, key in request.members:
            learnt = self._learn(request.examples, layout, split.train | split.validation, key)
            made.append(FittedMixedEffects(layout, self._design(layout), learnt))
            fits.done(member, 1)
        return made

    def load(self, path: Path, layout: Layout) -> Fitted:
        layout = self._reads(layout)
        return FittedMixedEffects(layout, self._design(layout), load_arrays(path, self._blank(layout)))

    def parts(self) -> Sequence[Part]:
        return [Part(name, ("train", "validation")) for name in ("normaliser", "parameters", "calibration")]

    def _reads(self, layout: Layout) -> Layout:
        return replace(without_events(layout, "a mixed-effects model"), modalities=(), grids=())

    def _design(self, layout: Layout) -> Design:
        return Design(layout, self.random_slopes, self.covariates, self.future_covariates)

    def _learn(self, examples: Examples, layout: Layout, learns: Bool[np.ndarray, " n"], key: Key[Array, ""]) -> Learnt:
        known_of_two(examples, layout.measured, learns, "mixed effects need")
        design, history = self._design(layout), history_of(examples)
        scales = design.scales(history, learns)
        learnt = Learnt(scales, _fit(design, scales, history, learns.astype(np.float32)), {})
        predictive = _in_chunks(design, learnt, history, examples.train_queries.query) if layout.categoricals else ()
        return replace(
            learnt,
            levels={
                t.name: self._calibrated(examples, design, t, predictive, learns, key) for t in layout.categoricals
            },
        )

    def _calibrated(
        self,
        examples: Examples,
        design: Design,
        target: Categorical,
        predictive: Sequence[np.ndarray],
        learns: np.ndarray,
        key: Key[Array, ""],
    ) -> PyTree:
        truth = examples.train_queries.truth[target.name]
        assert isinstance(truth, Truth)  # no event comes here
        counts = (truth.observed & examples.train_queries.query.valid & learns[:, None]).astype(np.float32)
        mean, variance = (jnp.asarray(part[..., design.places[target.name]]) for part in predictive)
        x = _clues(target, mean, variance).reshape(counts.size, -1)
        level = np.where(truth.observed, truth.value, 0).astype(np.int32).reshape(-1)
        return _levels(target).fit(x, np.ones(x.shape, bool), level, counts.reshape(-1), key=key)

    def _blank(self, layout: Layout) -> Learnt:
        """Parameters of the right shapes."""
        width, effects = self._design(layout).width, 1 + self.random_slopes
        outcomes = sum(map(numbers, layout.measured))
        scales = Scales(jnp.zeros(2), jnp.zeros((2, width)), jnp.zeros((2, outcomes)))
        p = 2 + width
        models = Mixed(
            jnp.zeros((outcomes, p)),
            jnp.zeros((outcomes, effects, effects)),
            jnp.zeros(outcomes),
            jnp.zeros((outcomes, p, p)),
            jnp.zeros(outcomes, bool),
            jnp.zeros(outcomes, bool),
        )

        def blank(target: Categorical) -> PyTree:
            x = jnp.zeros((1, len(target.levels)))
            rows = (x, jnp.ones(x.shape, bool), jnp.zeros(1, int), jnp.ones(1))
            shapes = jax.eval_shape(lambda: _levels(target).fit(*rows, key=jax.random.key(0)))
            return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        return Learnt(scales, models, {t.name: blank(t) for t in layout.categoricals})


@dataclass(frozen=True)
class FittedMixedEffects(Fitted):
    """The fitted parameters with their layout."""

    layout: Layout
    design: Design
    learnt: Learnt

    @property
    def notes(self) -> Sequence[str]:
        models, notes = self.learnt.models, []
        for target in self.layout.measured:
            places = self.design.places[target.name]
            if np.asarray(models.collapsed)[places].any():
                notes.append(collapse(target.name))
            if not np.asarray(models.converged)[places].all():
                notes.append(f"{target.name}: mixed effects did not converge; leave out random_slopes or covariates")
            if not isinstance(target, Categorical):
                continue
            if short := _levels(target).shortfall(self.learnt.levels[target.name]):
                notes.append(f"{target.name}: {short}")
        return notes

    def predict(self, history: Visits, query: Query) -> Forecast:
        seen = replace(history, scans={})
        return _forecast(self.design, self.learnt, seen, query)

    def save(self, path: Path) -> None:
        save_arrays(path, self.learnt)


@partial(jax.jit, static_argnums=0)
def _forecast(design: Design, learnt: Learnt, history: Visits, query: Query) -> Forecast:
    mean, variance = _conditional(design, learnt, history, query)
    places, answers = design.places, {}
    for target in design.layout.measured:
        own = mean[..., places[target.name]]
        if isinstance(target, Categorical):
            x = _clues(target, own, variance[..., places[target.name]]).reshape(-1, len(target.levels))
            probs = _levels(target).predict(learnt.levels[target.name], x, jnp.ones(x.shape, bool))
            answers[target.name] = Classes(probs.reshape(*own.shape[:-1], len(target.levels)))
        else:
            spread = jnp.sqrt(variance[..., places[target.name]])
            answers[target.name] = Values(own + spread * ndtri(jnp.asarray(LEVELS)))
    return answers


@partial(jax.jit, static_argnums=0)
def _fit(design: Design, scales: Scales, history: Visits, weight: Arr) -> Mixed:
    """A model for each outcome, one after the other: alone or beside others the arithmetic is the same."""
    x, z = design.effects(scales, history.times, *design.at_visits(history))
    y, seen = design.outcomes(history)
    y = (y - scales.outcomes[0]) / scales.outcomes[1]
    return lax.map(
        lambda one: mixed_effects.fit(x, z, *one, weight), (jnp.moveaxis(y, -1, 0), jnp.moveaxis(seen, -1, 0))
    )


@partial(jax.jit, static_argnums=0)
def _conditional(
    design: Design, learnt: Learnt, history: Visits, query: Query
) -> tuple[Float[Array, "b q o"], Float[Array, "b q o"]]:
    """Means and variances of the outcomes at the queries, in the outcomes' units."""
    scales, visits = learnt.scales, jnp.arange(history.times.shape[1])
    x, z = design.effects(scales, history.times, *design.at_visits(history))
    x_asked, z_asked = design.effects(scales, query.time, *design.at_queries(history, query))
    y, seen = design.outcomes(history)
    seen = seen & jnp.array([t.seen for t in design.layout.measured for _ in range(numbers(t))])
    y = (y - scales.outcomes[0]) / scales.outcomes[1]
    until = visits <= jnp.asarray(query.origin)[..., None]  # (b, q, t)

    def of_outcome(model: Mixed, y: Array, seen: Array) -> tuple[Array, Array]:
        def of_subject(x, z, y, seen, until, x_asked, z_asked):
            ask = partial(mixed_effects.conditional, model, x, z, y)
            return jax.vmap(lambda until, xq, zq: ask(seen & until, xq, zq))(until, x_asked, z_asked)

        return jax.vmap(of_subject)(x, z, y, seen, until, x_asked, z_asked)

    mean, variance = jax.vmap(of_outcome, (0, 2, 2), 2)(learnt.models, y, seen)
    return scales.outcomes[0] + scales.outcomes[1] * mean, scales.outcomes[1] ** 2 * variance


def _clues(target: Categorical, mean: Float[Array, "b q k"], variance: Float[Array, "b q k"]) -> Float[Array, "b q d"]:
    """Features that calibrate probabilities: for one number, the log-probability that it rounds to each level."""
    if numbers(target) > 1:
        return mean
    cuts = jnp.arange(len(target.levels) - 1) + 0.5
    below = ndtr((cuts - mean) / jnp.sqrt(variance))
    edges = jnp.concatenate([jnp.zeros_like(mean), below, jnp.ones_like(mean)], -1)
    return jnp.log(jnp.maximum(jnp.diff(edges, axis=-1), 1e-3))


def _levels(target: Categorical) -> Prepared:
    return Prepared(Logistic(len(target.levels)))


def _in_chunks(design: Design, learnt: Learnt, history: Visits, query: Query) -> list[np.ndarray]:
    """Conditional means and variances of all subjects' outcomes at their queries."""
    query = jax.tree.map(lambda part: part.astype(np.float32) if part.dtype == np.float64 else part, query)
    parts = []
    for start in range(0, len(history.times), CHUNK):
        some = jax.tree.map(lambda part, start=start: part[start : start + CHUNK], (history, query))
        parts.append([np.asarray(part) for part in _conditional(design, learnt, *some)])
    return [np.concatenate(part) for part in zip(*parts, strict=True)]
