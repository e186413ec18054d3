"""Calendar dates as numbers: years since 1 January 2000, the unit of every variable with the role "date"."""

from datetime import UTC, datetime, timedelta

import numpy as np
from jaxtyping import Float

from framework.data.cohort.store import Cohort
from framework.errors import UserError

UNITS = "years since 2000-01-01"
DAYS_PER_YEAR = 365.25


def years(text: str, form: str = "") -> float:
    """A date (ISO 8601, or as `form` has it) in years since 2000. Raises ValueError where it is none."""
    moment = datetime.strptime(text, form) if form else datetime.fromisoformat(text)
    moment = moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    elapsed = moment - datetime(2000, 1, 1)
    return (elapsed.days + elapsed.seconds / 86400) / DAYS_PER_YEAR


def day(years: float) -> str:
    """The date, YYYY-MM-DD, so many years since 2000."""
    return str((datetime(2000, 1, 1) + timedelta(days=round(years * DAYS_PER_YEAR))).date())


def setting(text: str, key: str) -> float:
    """A date of the configuration. Raises UserError where it is none."""
    try:
        return years(text)
    except ValueError:
        raise UserError(f"{key} is {text!r}; expected a date YYYY-MM-DD") from None


def dates(cohort: Cohort) -> Float[np.ndarray, "n t"]:
    """When each visit was, in years since 2000; one without a date of its own is dated by another of its subject.

    Raises UserError where the cohort declares no date, or a subject has none.
    """
    found = np.full(cohort.times.shape, np.nan)
    for place, variable in enumerate(cohort.schema.variables):
        if "date" in variable.roles:
            found = np.where(cohort.observed[..., place] & cohort.valid, cohort.values[..., place], found)
    start = _first(found - cohort.times)
    for place, variable in enumerate(cohort.schema.static):
        if "date" in variable.roles:  # the date of the first visit
            start = np.where(np.isnan(start) & cohort.static_observed[:, place], cohort.static[:, place], start)
    undated = np.flatnonzero(np.isnan(start) & cohort.valid.any(1))
    if len(undated):
        raise UserError(
            f"{len(undated)} subjects, such as {cohort.subjects[undated[0]]!r}, have no date; map the "
            "column that dates their visits: data.reader.variables.date={column: ..., roles: [date]}"
        )
    return np.where(np.isnan(found), start[:, None] + cohort.times, found)


def _first(table: Float[np.ndarray, "n t"]) -> Float[np.ndarray, " n"]:
    """The first number of each row, NaN where there is none."""
    there = ~np.isnan(table)
    first = np.take_along_axis(table, there.argmax(1)[:, None], 1)[:, 0] if table.shape[1] else np.zeros(len(table))
    return np.where(there.any(1), first, np.nan)
