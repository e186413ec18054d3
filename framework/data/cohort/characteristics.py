"""Characteristics of a study's subjects: length of follow-up, measurements, missing values."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from framework.data.cohort.dates import day
from framework.data.cohort.schema import Variable
from framework.data.cohort.store import Cohort

QUARTERS = (0.5, 0.25, 0.75)


def characteristics(cohort: Cohort, groups: Mapping[str, Bool[np.ndarray, " n"]]) -> dict:
    """Counts and distributions of a cohort in each group of subjects, as JSON holds them.

    A variable is described by the value each subject had when first seen with one; `missing` counts the visits (the
    subjects, where it is recorded once) without it. What is known only afterwards is described too, under its role.
    """
    visit = [
        _variable(cohort, v, groups, cohort.values[..., j], cohort.observed[..., j] & cohort.valid)
        for j, v in enumerate(cohort.schema.variables)
    ]
    static = [
        _variable(cohort, v, groups, cohort.static[:, j, None], cohort.static_observed[:, j, None])
        for j, v in enumerate(cohort.schema.static)
    ]
    return {
        "groups": [{"name": name, **_followed(cohort, rows)} for name, rows in groups.items()],
        "dates": _dates(cohort),
        "variables": [one for one in (*static, *visit) if one is not None],
    }


def _followed(cohort: Cohort, rows: Bool[np.ndarray, " n"]) -> dict:
    counts = cohort.valid[rows].sum(1)
    last = np.where(cohort.valid[rows], cohort.times[rows], 0).max(1, initial=0)
    return {
        "subjects": int(rows.sum()),
        "visits": int(counts.sum()),
        "visits_each": _quarters(counts),
        "followed": _quarters(last),
        "longest": float(last.max(initial=0)),
    }


def _variable(
    cohort: Cohort,
    variable: Variable,
    groups: Mapping[str, Bool[np.ndarray, " n"]],
    value: Float[np.ndarray, "n t"],
    has: Bool[np.ndarray, "n t"],
) -> dict | None:
    if "date" in variable.roles:
        return None  # the study gives its dates as a whole
    visits = cohort.valid if value.shape[1] == cohort.valid.shape[1] else np.ones_like(has)
    first = np.take_along_axis(value, has.argmax(1)[:, None], 1)[:, 0]

    def of(rows: Bool[np.ndarray, " n"]) -> dict:
        some = first[rows & has.any(1)]
        summary = (
            {"counts": [int((some == level).sum()) for level in range(len(variable.levels))]}
            if variable.levels
            else {"quarters": _quarters(some)}
        )
        return {"missing": int((visits & ~has)[rows].sum()), "of": int(visits[rows].sum()), **summary}

    return {
        "name": variable.name,
        "description": variable.description,
        "roles": list(variable.roles),
        "units": variable.units,
        "levels": list(variable.levels),
        "groups": [of(rows) for rows in groups.values()],
    }


def _dates(cohort: Cohort) -> list[str] | None:
    """The first and the last day of all dates; None where the cohort has none."""
    dated = [cohort.values[..., j][cohort.observed[..., j] & cohort.valid] for j, v in _dated(cohort.schema.variables)]
    dated += [cohort.static[:, j][cohort.static_observed[:, j]] for j, v in _dated(cohort.schema.static)]
    days = np.concatenate([np.ravel(days) for days in dated]) if dated else np.zeros(0)
    return [day(float(end)) for end in (days.min(), days.max())] if len(days) else None


def _dated(variables: Sequence[Variable]) -> list[tuple[int, Variable]]:
    return [(place, variable) for place, variable in enumerate(variables) if "date" in variable.roles]


def _quarters(values: np.ndarray) -> list[float] | None:
    """The median and the quartiles; None of nothing."""
    return [float(x) for x in np.quantile(values, QUARTERS)] if len(values) else None
