"""Groups of subjects: sites, scanners, and values when first seen."""

import numpy as np
from jaxtyping import Bool, Float, Int

from framework.data.cohort.schema import Variable
from framework.data.cohort.store import Cohort
from framework.data.ingest.validate import known
from framework.errors import UserError


def first_values(cohort: Cohort, name: str) -> tuple[Variable, Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """A variable, its first observed value of each subject, and whether there is one.

    Raises UserError where the cohort has no such variable, or it is known only afterwards.
    """
    static = {variable.name: place for place, variable in enumerate(cohort.schema.static)}
    known(name, [*static, *(v.name for v in cohort.schema.variables)], "split: variable")
    if name in static:
        place = static[name]
        variable, value, has = cohort.schema.static[place], cohort.static[:, place], cohort.static_observed[:, place]
    else:
        variable, place = cohort.schema.variable(name), cohort.column(name)
        observed = cohort.observed[..., place] & cohort.valid
        value = np.take_along_axis(cohort.values[..., place], observed.argmax(1)[:, None], 1)[:, 0]
        has = np.any(observed, axis=1)
    if "hindsight" in variable.roles:
        raise UserError(
            f"split: {name!r} is known only afterwards (role hindsight); take a variable of the first visit"
        )
    return variable, value, has


def visited(cohort: Cohort, name: str, levels: int) -> Bool[np.ndarray, "n g"]:
    """Which groups each subject was ever seen in."""
    if name in [variable.name for variable in cohort.schema.static]:
        _, value, has = first_values(cohort, name)
        return has[:, None] & (value[:, None] == np.arange(levels))
    place = cohort.column(name)
    there = cohort.observed[..., place] & cohort.valid
    return (there[..., None] & (cohort.values[..., place, None] == np.arange(levels))).any(1)


def natural(name: str) -> tuple[bool, float, str]:
    """A key by which numbers, or names that begin with one, stand in its order, then other names in theirs."""
    first = name.split(" ")[0]
    number = first.replace(".", "", 1).isdecimal()
    return not number, float(first) if number else 0.0, name


def stratum(value: Float[np.ndarray, " n"], has: Bool[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """A level, or the quarter of a number with many values; those without one are a stratum of their own."""
    found = value[has]
    if len(np.unique(found)) > 10:
        value = np.searchsorted(np.quantile(found, (0.25, 0.5, 0.75)), value)
    return np.where(has, value, -1).astype(int)
