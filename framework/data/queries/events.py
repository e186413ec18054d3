"""Events to be forecast: when each subject's came, by its visits or by a time of its own.

An event lies in (lo, hi], years since the subject's first visit: lo is when it was last known not to have come (-inf
where that was never known), hi when it was known to have come (inf where it was not).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from framework.configurable import configurable
from framework.data.cohort.dates import DAYS_PER_YEAR
from framework.data.cohort.schema import Schema, Variable
from framework.data.cohort.store import Cohort
from framework.errors import UserError
from framework.types import Interval

HORIZONS = (1.0, 2.0, 3.0, 4.0, 5.0)
DIRECTIONS = ("rising", "falling")
Ends = tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]  # lo and hi of each subject


@configurable("event")
@dataclass(frozen=True)
class EventDefinition(ABC):
    """Definition of an event, and the years after an origin at which its survival is judged (`horizons`)."""

    horizons: Sequence[float] = HORIZONS

    def __post_init__(self):
        object.__setattr__(self, "horizons", tuple(float(years) for years in self.horizons))  # YAML has lists
        if not self.horizons or self.horizons[0] <= 0 or any(np.diff(self.horizons) <= 0):
            raise UserError(f"an event's horizons are {list(self.horizons)}; expected years above 0, ascending")

    @abstractmethod
    def check(self, name: str, schema: Schema) -> None:
        """Raise UserError where the cohort does not hold what tells the event."""

    @abstractmethod
    def between(self, cohort: Cohort) -> Ends:
        """(lo, hi] of each subject."""


@dataclass(frozen=True, kw_only=True)
class ThresholdReached(EventDefinition):
    """The first visit at which a variable is at a level or beyond it, in a `direction`: rising, or (a number) falling.

    Levels that are not ordered have no beyond. A subject whose first observation has reached it is never at risk.
    """

    variable: str
    level: str | int | float
    direction: str = "rising"

    def __post_init__(self):
        super().__post_init__()
        if self.direction not in DIRECTIONS:
            raise UserError(f"an event's direction is {self.direction!r}; expected one of {list(DIRECTIONS)}")

    def check(self, name: str, schema: Schema) -> None:
        variable = _named(schema.variables, self.variable, f"event {name!r}: variable")
        if variable.levels and (
            self.direction == "falling" or str(self.level) not in variable.levels[variable.ordered :]
        ):
            raise UserError(
                f"event {name!r}: {self.variable} reaches {self.level!r}; expected one of its levels "
                f"{list(variable.levels[variable.ordered :])}, with direction: rising"
            )
        if not variable.levels and isinstance(self.level, str):
            raise UserError(f"event {name!r}: {self.variable} reaches {self.level!r}; expected a number")

    def between(self, cohort: Cohort) -> Ends:
        variable = cohort.schema.variable(self.variable)
        place = cohort.schema.variables.index(variable)
        seen = cohort.observed[..., place] & cohort.valid
        there = seen & self._reached(variable, cohort.values[..., place])
        hi = np.where(there, cohort.times, np.inf).min(1, initial=np.inf)
        return np.where(seen & (cohort.times < hi[:, None]), cohort.times, -np.inf).max(1, initial=-np.inf), hi

    def _reached(self, variable: Variable, values: Float[np.ndarray, "n t"]) -> Bool[np.ndarray, "n t"]:
        if not variable.levels:
            return values <= float(self.level) if self.direction == "falling" else values >= float(self.level)
        level = variable.levels.index(str(self.level))
        return values >= level if variable.ordered else values == level


@dataclass(frozen=True, kw_only=True)
class RecordedEvent(EventDefinition):
    """An event with a time of its own, in a variable recorded once per subject: years since the first visit, or an age.

    Where it is missing the event had not come by `until`, a variable likewise, and failing that by the last visit.
    `age` names the visit variable that both are ages of (known ahead, `per_year`). `resolution_years` is how exact the
    time is: the event lies in (time - resolution_years, time]; a day by default. Both variables are known only
    afterwards: their role is hindsight. In a cohort as it was known by a day what came later had not come: by that day
    where `until` is recorded, else by the last visit.
    """

    time: str
    until: str | None = None
    age: str | None = None
    resolution_years: float = 1 / DAYS_PER_YEAR

    def check(self, name: str, schema: Schema) -> None:
        if self.resolution_years <= 0:
            raise UserError(f"event {name!r}: resolution_years is {self.resolution_years}; expected years above 0")
        for column in filter(None, (self.time, self.until)):
            variable = _named(schema.static, column, f"event {name!r}: variable recorded once per subject")
            if variable.roles != ("hindsight",) or variable.levels:
                raise UserError(
                    f"event {name!r}: {column} has roles {list(variable.roles)} and levels {list(variable.levels)}; "
                    "expected a time that is known only afterwards: give it roles: [hindsight]"
                )
        if self.age is not None and not _named(schema.variables, self.age, f"event {name!r}: age").per_year:
            raise UserError(f"event {name!r}: {self.age} does not advance by itself; give it per_year")

    def between(self, cohort: Cohort) -> Ends:
        came, until = self._since(cohort, self.time), self._since(cohort, self.until)
        last = np.where(cohort.valid, cohort.times, 0).max(1, initial=0)
        after = np.flatnonzero(came > until + self.resolution_years)
        if len(after):
            raise UserError(
                f"{self.time!r} comes after {self.until!r} in {len(after)} subjects, such as "
                f"{cohort.subjects[after[0]]!r}; correct one of the two"
            )
        until = np.where(np.isnan(until), last, until)
        if cohort.until is not None:
            later = came > cohort.until
            until = np.where(later, last if self.until is None else cohort.until, np.minimum(until, cohort.until))
            came = np.where(later, np.nan, came)
        return np.where(np.isnan(came), until, came - self.resolution_years), np.where(np.isnan(came), np.inf, came)

    def _since(self, cohort: Cohort, name: str | None) -> Float[np.ndarray, " n"]:
        """A time in years since the first visit, NaN where it is missing."""
        if name is None:
            return np.full(len(cohort.subjects), np.nan)
        place = [variable.name for variable in cohort.schema.static].index(name)
        time = np.where(cohort.static_observed[:, place], cohort.static[:, place], np.nan)
        return time if self.age is None else self._from_age(cohort, time)

    def _from_age(self, cohort: Cohort, age: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        variable = cohort.schema.variable(str(self.age))
        place = cohort.schema.variables.index(variable)
        seen = cohort.observed[..., place] & cohort.valid
        first, subject = seen.argmax(1), np.arange(len(seen))
        years = (age - cohort.values[subject, first, place]) / (variable.per_year or 1) + cohort.times[subject, first]
        return np.where(seen.any(1), years, np.nan)


def since_origin(
    lo: Float[np.ndarray, "n 1"], hi: Float[np.ndarray, "n 1"], origin: Float[np.ndarray, "n q"]
) -> Interval:
    """An event in (lo, hi], years since the first visit, as seen from each origin.

    One known to have come by the origin takes the row out, and so does one of which nothing is known after it. One that
    may have come already (lo before the origin, hi after) is taken to come after it, as a forecast that is asked for
    takes for granted.
    """
    lo, hi = np.maximum(lo - origin, 0), hi - origin
    observed = (hi > 0) & ((lo > 0) | np.isfinite(hi))
    return Interval(np.where(observed, lo, 0), np.where(observed, hi, np.inf), observed)


def _named(variables: Sequence[Variable], name: str, what: str) -> Variable:
    for variable in variables:
        if variable.name == name:
            return variable
    raise UserError(f"{what} {name!r} is not in the cohort; it has {[variable.name for variable in variables]}")
