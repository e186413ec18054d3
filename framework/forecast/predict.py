"""Forecasts for many subjects, a batch at a time."""

from dataclasses import replace
from typing import assert_never

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from framework.data.batches.batch import Loader, Rows
from framework.data.queries.examples import Examples, QuerySet
from framework.errors import UserError
from framework.forecast.base import Fitted
from framework.history import asked_at_origin
from framework.types import MEDIAN, Answer, Arr, Classes, Layout, Query, SurvivalForecast, Values, Visits

BATCH = 32


def answers(
    fitted: Fitted, examples: Examples, rows: Rows, queries: QuerySet, curves: bool = True
) -> dict[str, Float[np.ndarray, "rows q p"]]:
    """For each target the quantiles and point forecast, or class probabilities, of these subjects' queries.

    Of an event survival: with `curves` at each of its horizons after the queries' origins, else at their own times.
    Raises UserError where something is asked before its origin.
    """
    _ahead(examples, rows, queries.query)
    loader = Loader(replace(examples, layout=fitted.layout), cache_bytes=0)
    size = loader.size(min(BATCH, len(rows)), rows)
    parts: dict[str, list[np.ndarray]] = {target.name: [] for target in fitted.layout.targets}
    for some in loader.pack(rows, size):
        batch = loader.batch(some, size, queries)
        for name, values in _numbers(fitted, batch.visits, batch.query, curves).items():
            parts[name].append(np.asarray(values, np.float64)[: len(some)])
    return {name: np.concatenate(part) for name, part in parts.items()}


def numbers(answer: Answer) -> Arr:
    """A forecast as one array: probabilities (b q c), survival (b q), or quantiles and the point forecast (b q l+1)."""
    match answer:
        case Values():
            quantiles, point = jnp.asarray(answer.quantiles), answer.point
            point = quantiles[..., MEDIAN] if point is None else jnp.asarray(point, quantiles.dtype)
            return jnp.concatenate([quantiles, point[..., None]], axis=-1)
        case Classes():
            return answer.probs
        case SurvivalForecast():
            return answer.survival
        case _:
            assert_never(answer)


def _numbers(fitted: Fitted, visits: Visits, query: Query, curves: bool) -> dict[str, Float[np.ndarray, "b q p"]]:
    horizons = {event.name: event.horizons if curves else () for event in fitted.layout.events}
    years = sorted({year for each in horizons.values() for year in each})
    forecast = fitted.predict(visits, _with(query, visits, years, fitted.layout))
    each = {name: np.asarray(numbers(answer)) for name, answer in forecast.items()}
    count = query.time.shape[1]
    for name, answer in forecast.items():
        if isinstance(answer, SurvivalForecast):  # at the query's own time, then at each of the years
            blocks = each[name].reshape(len(each[name]), -1, count).swapaxes(1, 2)
            each[name] = blocks[..., [1 + years.index(year) for year in horizons[name]] or [0]]
    return {name: values[:, :count] for name, values in each.items()}


def _with(query: Query, visits: Visits, years: list[float], layout: Layout) -> Query:
    """The query, and behind it the same so many years after its origins."""
    if not years:
        return query
    start = asked_at_origin(query, visits.times, layout.known)
    speed = np.array([column.per_year or 0.0 for column in layout.known], np.float32)
    later = [replace(start, time=start.time + year, known=start.known + speed * year) for year in years]
    return jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), query, *later)


def _ahead(examples: Examples, rows: Rows, query: Query) -> None:
    origin = np.take_along_axis(examples.cohort.times, np.asarray(query.origin), 1)
    early = np.asarray(query.valid) & (np.asarray(query.time) < origin)
    for row in map(int, rows):
        if early[row].any():
            q = int(early[row].argmax())
            raise UserError(
                f"subject {examples.subjects[row]!r} is asked about {float(query.time[row, q]):.4g} years from visit "
                f"{int(query.origin[row, q])}, which was at {origin[row, q]:.4g}; ask at the origin or after it"
            )
