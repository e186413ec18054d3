"""Disease progression as a forecaster: one stage behind all targets, passed along at each subject's own pace."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, Bool, Float

from framework.baselines.mixed import progression
from framework.baselines.mixed.progression import Course, Ends, Mixture, Progression
from framework.data.queries.examples import Examples
from framework.errors import UserError
from framework.forecast.base import Fitted, Forecaster, Part
from framework.forecast.fit_request import FitRequest, Fits
from framework.forecast.mixed.design import Design, Scales, collapse, history_of, known_of_two
from framework.forecast.target_kinds import without_events
from framework.history import at_origin
from framework.train.array_io import load_arrays, save_arrays
from framework.types import (
    LEVELS,
    Classes,
    Forecast,
    Interval,
    Layout,
    Query,
    SurvivalForecast,
    Values,
    Visits,
    pytree,
)

HALVINGS = 22  # of the stretch in which quantiles lie: that of all normals' own


@pytree
class Learnt:
    """The fitted model: scales to unit spread, the course in those units, and whether the fit converged."""

    scales: Scales
    model: Progression
    converged: Bool[Array, ""]


@dataclass(frozen=True)
class DiseaseProgression(Forecaster):
    """All targets together: numbers on logistic curves of the stage, each with a level of its own in every subject and,
    with `random_slopes`, a slope; levels and events as likely as the stage makes them.

    Fixed effects are time, with `covariates` the static variables, with `future_covariates` those known ahead (age at
    the queried visit, a plan); at the first visit they also move a subject's time shift and pace. The stage itself
    never goes back, and no plan changes its pace. Quantiles are those of a mixture over `nodes`² pairs of shift and
    pace, given the history of all targets that are inputs. An event is described by what is known at its origin, its
    absence until then included, and needs a target beside it that is measured, or nothing would tell the stage.
    Training and validation subjects are read, for nothing is chosen on the latter; at most `steps` steps of scoring.
    """

    random_slopes: bool
    covariates: bool
    future_covariates: bool
    nodes: int
    steps: int

    def __post_init__(self):
        if self.nodes < 3 or self.steps < 1:
            raise UserError(f"model.nodes={self.nodes}, model.steps={self.steps}; expected 3 nodes or more, and a step")

    def fit_many(self, request: FitRequest) -> list[Fitted]:
        """One member after the other; all of them run the same programs."""
        reading = self._reading(request.examples.layout)
        made: list[Fitted] = []
        fits = Fits(request.log, len(request))
        for member, split, _ in request.members:
            learnt = self._learn(request.examples, reading, split.train | split.validation)
            made.append(FittedProgression(reading.layout, reading, learnt))
            fits.done(member, 1)
        return made

    def load(self, path: Path, layout: Layout) -> Fitted:
        reading = self._reading(layout)
        shapes = jax.eval_shape(reading.blank)
        blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return FittedProgression(reading.layout, reading, load_arrays(path, blank))

    def parts(self) -> Sequence[Part]:
        return [Part(name, ("train", "validation")) for name in ("normaliser", "parameters")]

    def _reading(self, layout: Layout) -> "Reading":
        without_events(layout, "a progression model")  # refuses events alone
        layout = replace(layout, modalities=(), grids=())
        return Reading(layout, self.random_slopes, self.covariates, self.future_covariates, self.nodes)

    def _learn(self, examples: Examples, reading: "Reading", learns: Bool[np.ndarray, " n"]) -> Learnt:
        known_of_two(examples, reading.layout.measured, learns, "a progression model needs")
        history, weight = history_of(examples), learns.astype(np.float32)
        scales = reading.design.scales(history, learns)
        course, ends = reading.course(scales, history, every=True), reading.ends(examples, float(scales.time[1]))
        start = progression.begin(course, ends, weight, columns=reading.design.width, levels=reading.levels)
        return Learnt(scales, *progression.fit(course, ends, start, weight, nodes=self.nodes, steps=self.steps))


@dataclass(frozen=True)
class Reading:
    """Inputs of a progression model from visits and queries; the stage's clock runs in spreads of visits' times."""

    layout: Layout
    random_slopes: bool
    covariates: bool
    future_covariates: bool
    nodes: int

    @property
    def levels(self) -> tuple[tuple[str, int, bool], ...]:
        """Name, number of levels and order of each class target; ordered levels share one gain of the stage."""
        return tuple((t.name, len(t.levels), t.ordered or len(t.levels) == 2) for t in self.layout.categoricals)

    @property
    def design(self) -> Design:
        """The columns of the numbers' model."""
        return Design(
            replace(self.layout, targets=self.layout.numbers),
            self.random_slopes,
            self.covariates,
            self.future_covariates,
        )

    def course(self, scales: Scales, history: Visits, every: bool = False) -> Course:
        """The observed course of the targets that are inputs, or of `every` one."""
        x, z = self.design.effects(scales, history.times, *self.design.at_visits(history))
        y, seen = self.design.outcomes(history)
        seen = seen & (every | np.array([target.seen for target in self.layout.numbers], bool))
        observed = jnp.asarray(history.observed) & jnp.asarray(history.valid)[..., None]
        recorded = {t.name: observed[..., t.index] & (every or t.seen) for t in self.layout.categoricals}
        values = jnp.asarray(history.values)
        levels = {
            t.name: jnp.where(recorded[t.name], values[..., t.index], 0).astype(int) for t in self.layout.categoricals
        }
        y = jnp.where(seen, (jnp.asarray(y) - scales.outcomes[0]) / scales.outcomes[1], 0)
        return Course(jnp.asarray(history.times) / scales.time[1], x, z, y, seen, levels, recorded)

    def ends(self, examples: Examples, unit: float) -> Ends:
        """Each event from the first visit at which it was at risk."""
        count, query = len(examples.subjects), examples.train_queries.query
        parts = np.zeros((4, count, len(self.layout.events)), np.float32)
        for place, event in enumerate(self.layout.events):
            truth = examples.train_queries.truth[event.name]
            assert isinstance(truth, Interval)
            first = np.arange(count), np.asarray(truth.observed).argmax(1)
            since = examples.cohort.times[first[0], np.asarray(query.origin)[first]]
            parts[:, :, place] = since / unit, truth.lo[first] / unit, truth.hi[first] / unit, truth.observed[first]
        return Ends(parts[0], parts[1], parts[2], parts[3] > 0)

    def blank(self) -> Learnt:
        """Parameters of the right shapes."""
        width, one = self.design.width, jnp.zeros((1, 1))
        names = {name: (jnp.zeros((1, 1), int), jnp.zeros((1, 1), bool)) for name, *_ in self.levels}
        numbers, events = (jnp.zeros((1, 1, len(some))) for some in (self.layout.numbers, self.layout.events))
        levels, recorded = ({name: pair[at] for name, pair in names.items()} for at in (0, 1))
        x, z = jnp.zeros((1, 1, 2 + width)), jnp.zeros((1, 1, 1 + self.random_slopes))
        course = Course(one, x, z, numbers, numbers > 0, levels, recorded)
        ends = Ends(events[0], events[0], events[0], events[0] > 0)
        scales = Scales(jnp.zeros(2), jnp.zeros((2, width)), jnp.zeros((2, len(self.layout.numbers))))
        begun = progression.begin(course, ends, jnp.ones(1), columns=width, levels=self.levels)
        return Learnt(scales, begun, jnp.array(False))


@dataclass(frozen=True)
class FittedProgression(Fitted):
    """The fitted model with its layout."""

    layout: Layout
    reading: Reading
    learnt: Learnt

    @property
    def notes(self) -> Sequence[str]:
        flat = np.asarray(progression.collapsed(self.learnt.model))
        names = [target.name for target, none in zip(self.layout.numbers, flat, strict=True) if none]
        notes = [collapse(name) for name in names]
        if not self.learnt.converged:
            notes.append("the progression model did not converge; give more model.steps, or fewer targets")
        return notes

    def predict(self, history: Visits, query: Query) -> Forecast:
        return _forecast(self.reading, self.learnt, replace(history, scans={}), query)

    def save(self, path: Path) -> None:
        save_arrays(path, self.learnt)


@partial(jax.jit, static_argnums=0)
def _forecast(reading: Reading, learnt: Learnt, history: Visits, query: Query) -> Forecast:
    scales, model, design = learnt.scales, learnt.model, reading.design
    course = reading.course(scales, history)
    x, z = design.effects(scales, query.time, *design.at_queries(history, query))
    unit, origin = scales.time[1], at_origin(history.times, query)
    ahead = jnp.maximum(jnp.where(query.valid, query.time - origin, 0), 0)

    def of_subject(one: tuple) -> tuple[Array, Mapping[str, Array], Array]:
        course, *asked = one

        def of_query(
            x: Array, z: Array, last: Array, origin: Array, ahead: Array
        ) -> tuple[Array, Mapping[str, Array], Array]:
            known = course.until(last)
            mixture = progression.predict(model, known, origin + ahead, x, z, reading.nodes)
            return _quantiles(mixture), mixture.levels, progression.survival(model, known, origin, ahead, reading.nodes)

        return jax.vmap(of_query)(*asked)

    each = course, x, z, jnp.asarray(query.origin), origin / unit, ahead / unit
    quantiles, chances, lasting = lax.map(of_subject, each)  # one subject at a time is all the memory it takes
    quantiles = scales.outcomes[0][:, None] + scales.outcomes[1][:, None] * quantiles
    return {
        **{target.name: Values(quantiles[:, :, place]) for place, target in enumerate(reading.layout.numbers)},
        **{target.name: Classes(chances[target.name]) for target in reading.layout.categoricals},
        **{event.name: SurvivalForecast(lasting[..., place]) for place, event in enumerate(reading.layout.events)},
    }


def _quantiles(mixture: Mixture) -> Float[Array, "o l"]:
    """By halving the stretch in which they lie; as all start from the same one they cannot cross."""
    spread, levels = jnp.sqrt(mixture.variance), jnp.asarray(LEVELS)
    ends = (mixture.mean + ndtri(levels[0]) * spread).min(-1), (mixture.mean + ndtri(levels[-1]) * spread).max(-1)
    low, high = (jnp.broadcast_to(end[:, None], (len(spread), len(levels))) for end in ends)

    def halved(_: Array | int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        below = ndtr((middle[..., None] - mixture.mean[:, None]) / spread[:, None]) @ mixture.weight
        return jnp.where(below < levels, middle, low), jnp.where(below < levels, high, middle)

    low, high = lax.fori_loop(0, HALVINGS, halved, (low, high))
    return (low + high) / 2
