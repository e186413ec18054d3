"""Design of a mixed model: columns of fixed and random effects, and outcomes as numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from framework.baselines.mixed.mixed_effects import LEAST
from framework.data.queries.examples import Examples
from framework.errors import UserError
from framework.history import last_observed
from framework.types import Arr, Categorical, Column, Layout, Measured, Number, Query, Visits, pytree


@pytree
class Scales:
    """Means and spreads that bring time (2,), covariates (2, c) and outcomes (2, o) to unit spread."""

    time: Float[Arr, "2"]
    covariates: Float[Arr, "2 c"]
    outcomes: Float[Arr, "2 o"]


@dataclass(frozen=True)
class Design:
    """Columns of the fixed effects (time, with `covariates` the static variables, with `future_covariates` those known
    ahead) and of a subject's own: an intercept and, with `random_slopes`, time.
    """

    layout: Layout
    random_slopes: bool
    covariates: bool
    future_covariates: bool

    @property
    def width(self) -> int:
        """How many covariates there are."""
        columns = (self.layout.static if self.covariates else ()) + (
            self.layout.known if self.future_covariates else ()
        )
        return sum(column.classes - 1 if column.classes > 2 else 1 for column in columns)

    @property
    def places(self) -> dict[str, np.ndarray]:
        """Where each target's numbers stand among the outcomes."""
        ends = np.cumsum([numbers(target) for target in self.layout.measured])
        return {t.name: np.arange(end - numbers(t), end) for t, end in zip(self.layout.measured, ends, strict=True)}

    def effects(
        self, scales: Scales, times: Float[Arr, "b t"], covariates: Float[Arr, "b t c"], has: Bool[Arr, "b t c"]
    ) -> tuple[Float[Array, "b t p"], Float[Array, "b t r"]]:
        """The columns of the fixed and of the subjects' own effects; a missing covariate stands at its mean."""
        time = ((jnp.asarray(times) - scales.time[0]) / scales.time[1])[..., None]
        more = jnp.where(has, (covariates - scales.covariates[0]) / scales.covariates[1], 0)
        own = jnp.concatenate([jnp.ones_like(time), time], -1)
        return jnp.concatenate([own, more], -1), own if self.random_slopes else own[..., :1]

    def at_visits(self, history: Visits) -> tuple[Float[Array, "b t c"], Bool[Array, "b t c"]]:
        """Covariates at each visit, and where they are: what is known ahead is carried on from when last seen."""
        known, has, when = self._carried(history)
        rates = jnp.array([column.per_year or 0.0 for column in self.layout.known])
        times = jnp.asarray(history.times)[..., None]
        return self._columns(history, jnp.where(has, known + rates * (times - when), 0), has)

    def at_queries(self, history: Visits, query: Query) -> tuple[Float[Array, "b q c"], Bool[Array, "b q c"]]:
        """The same at each query."""
        has = jnp.asarray(query.future_observed)
        return self._columns(history, jnp.where(has, jnp.asarray(query.known), 0), has)

    def outcomes(self, history: Visits) -> tuple[Float[Array, "b t o"], Bool[Array, "b t o"]]:
        """The targets as numbers, and where they were seen."""
        shape = np.shape(history.valid)
        values, masks = [jnp.zeros((*shape, 0))], [jnp.zeros((*shape, 0), bool)]
        for target in self.layout.measured:
            seen = jnp.asarray(history.observed)[..., target.index] & jnp.asarray(history.valid)
            value = jnp.where(seen, jnp.asarray(history.values)[..., target.index], 0)
            count = numbers(target)
            values.append(value[..., None] if count == 1 else jax.nn.one_hot(value.astype(int), count))
            masks.append(jnp.broadcast_to(seen[..., None], values[-1].shape))
        return jnp.concatenate(values, -1), jnp.concatenate(masks, -1)

    def scales(self, history: Visits, learns: Bool[np.ndarray, " n"]) -> Scales:
        """Scales of the training subjects."""
        raw, has = (np.asarray(part) for part in self.at_visits(history))
        y, seen = (np.asarray(part) for part in self.outcomes(history))
        valid = np.asarray(history.valid) & learns[:, None]
        times = np.asarray(history.times)[valid][:, None]
        return Scales(
            _scale(times, np.ones(times.shape, bool))[:, 0],
            _scale(raw[valid], has[valid]),
            _scale(y[valid], seen[valid]),
        )

    def _carried(self, history: Visits) -> tuple[Array, Array, Array]:
        some = jnp.array([column.index for column in self.layout.known], int)
        seen = jnp.asarray(history.observed)[..., some] & jnp.asarray(history.valid)[..., None]
        return last_observed(jnp.asarray(history.values)[..., some], seen, jnp.asarray(history.times))

    def _columns(self, history: Visits, known: Array, has: Array) -> tuple[Array, Array]:
        """Static and future covariates side by side at each of (b, t) moments."""
        values, masks = [jnp.zeros((*known.shape[:2], 0))], [jnp.zeros((*known.shape[:2], 0), bool)]

        def add(column: Column, value: Array, mask: Array) -> None:
            many = column.classes > 2
            indicators = jax.nn.one_hot(value.astype(int), column.classes)[..., 1:] if many else value[..., None]
            values.append(jnp.where(mask[..., None], indicators, 0))
            masks.append(jnp.broadcast_to(mask[..., None], indicators.shape))

        for column in self.layout.static if self.covariates else ():
            parts = history.static, history.static_observed
            value, mask = (jnp.asarray(part)[:, None, column.index] for part in parts)
            add(column, *(jnp.broadcast_to(part, known.shape[:2]) for part in (jnp.where(mask, value, 0), mask)))
        for place, column in enumerate(self.layout.known if self.future_covariates else ()):
            add(column, known[..., place], has[..., place])
        return jnp.concatenate(values, -1), jnp.concatenate(masks, -1)


def numbers(target: Measured) -> int:
    """How many numbers a target is modelled as."""
    match target:
        case Number():
            return 1
        case Categorical():
            return len(target.levels) if len(target.levels) > 2 and not target.ordered else 1
        case _:
            assert_never(target)


def collapse(target: str) -> str:
    """The warning about a target whose noise was fitted as none."""
    return f"{target}: no noise was left to estimate; it was held at {LEAST} of the target's spread"


def known_of_two(examples: Examples, targets: Sequence[Measured], learns: Bool[np.ndarray, " n"], who: str) -> None:
    """Raise UserError for a target that fewer than two of those who are learnt from ever showed."""
    seen = np.asarray(examples.cohort.observed & examples.cohort.valid[..., None])[learns]
    for target in targets:
        count = int(seen[..., target.index].any(1).sum())
        if count < 2:
            raise UserError(f"{target.name} is known of {count} training subjects; {who} 2 or more")


def history_of(examples: Examples) -> Visits:
    """All that the cohort holds but its scans."""
    cohort = examples.cohort
    times, values, static = (np.asarray(part, np.float32) for part in (cohort.times, cohort.values, cohort.static))
    return Visits(times, cohort.valid, {}, values, cohort.observed, static, cohort.static_observed)


def _scale(values: Float[np.ndarray, "n c"], seen: Bool[np.ndarray, "n c"]) -> Float[np.ndarray, "2 c"]:
    found = np.zeros((2, values.shape[1]))
    for place in range(values.shape[1]):
        some = values[seen[:, place], place].astype(float)
        found[:, place] = (some.mean(), some.std() or 1) if len(some) else (0, 1)
    return found.astype(np.float32)
