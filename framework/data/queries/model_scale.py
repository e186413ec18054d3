"""The scale on which models read variables: the logarithm of those declared with `scale: log`."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from framework.data.queries.examples import Examples
from framework.types import Arr, Layout, Query, Visits


def on_model_scale(examples: Examples) -> Examples:
    """The examples as models read them; events are still read from the recorded values."""
    layout, cohort = examples.layout, examples.cohort
    visit, static, _ = _logged(layout)
    if not (visit or static):
        return examples
    values = _log(cohort.values, cohort.observed, visit)
    statics = _log(cohort.static, cohort.static_observed, static)
    return replace(examples, cohort=replace(cohort, values=values, static=statics), recorded=cohort)


def visits_on_model_scale(history: Visits, layout: Layout) -> Visits:
    """Recorded histories as models read them."""
    visit, static, _ = _logged(layout)
    if not (visit or static):
        return history
    return replace(
        history,
        values=_log(history.values, history.observed, visit),
        static=_log(history.static, history.static_observed, static),
    )


def query_on_model_scale(query: Query, layout: Layout) -> Query:
    """Queries with their planned variables as models read them."""
    _, _, known = _logged(layout)
    return replace(query, known=_log(query.known, query.future_observed, known)) if known else query


def _logged(layout: Layout) -> tuple[list[int], list[int], list[int]]:
    """Places of the logarithmic variables among those of visits, of subjects, and known ahead."""
    visit = {column.index for column in (*layout.inputs, *layout.numbers) if column.scale == "log"}
    static = {column.index for column in layout.static if column.scale == "log"}
    known = [place for place, column in enumerate(layout.known) if column.scale == "log"]
    return sorted(visit), sorted(static), known


def _log(values: Float[Arr, "... f"], observed: Bool[Arr, "... f"], places: list[int]) -> Float[Arr, "... f"]:
    """The values with the logarithms of these columns where they were observed, and 0 there where not."""
    if not places:
        return values
    space = np if isinstance(values, np.ndarray) else jnp
    some = space.isin(space.arange(values.shape[-1]), space.asarray(places))
    there = observed & some & (values > 0)  # what stands in padding may be 0
    logs = space.where(there, space.log(space.where(there, values, 1)), 0)
    return space.where(some, logs.astype(values.dtype), values)
