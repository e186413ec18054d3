"""Ranges of the numbers that a model was fitted on, and the numbers of new patients that lie far outside them."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from framework.data.cohort.schema import Variable
from framework.data.cohort.store import Cohort

WIDER = 0.5  # of its width, by which a range is extended on either side before a value counts as far outside
ROLES = {"input", "target", "future"}


def ranges(cohort: Cohort) -> dict[str, list[float]]:
    """Smallest and largest value of every number that has one, in its units."""
    return {
        variable.name: [float(values.min()), float(values.max())]
        for variable, values in _numbers(cohort)
        if len(values)
    }


def far_outside(cohort: Cohort, known: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """A warning for each variable with values far outside its range: extrapolation, or another unit."""
    for variable, values in _numbers(cohort):
        if variable.name not in known or not len(values):
            continue
        low, high = known[variable.name]
        log = variable.scale == "log" and low > 0
        ends, place = (np.log([low, high]), np.log(values)) if log else (np.array([low, high]), values)
        margin = WIDER * (ends[1] - ends[0])
        outside = (place < ends[0] - margin) | (place > ends[1] + margin)
        if outside.any():
            unit = "" if variable.units == "1" else f" {variable.units}"
            yield (
                f"{variable.name}: {outside.sum()} of {len(values)} values lie far outside {low:.4g} to {high:.4g}"
                f"{unit}, the range that the model was fitted on, the first {values[outside][0]:.4g}; check their unit"
            )


def _numbers(cohort: Cohort) -> Iterator[tuple[Variable, Float[np.ndarray, " v"]]]:
    """The observed values of every number that a model may read."""
    for k, variable in enumerate(cohort.schema.variables):
        if _is_number(variable):
            yield variable, cohort.values[..., k][cohort.observed[..., k] & cohort.valid]
    for k, variable in enumerate(cohort.schema.static):
        if _is_number(variable):
            yield variable, cohort.static[:, k][cohort.static_observed[:, k]]


def _is_number(variable: Variable) -> bool:
    return not variable.levels and bool(ROLES & set(variable.roles))
