"""Origins of forecasts: the visits of a subject that are the last one a forecast may see."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from framework.configurable import configurable
from framework.data.cohort.dates import dates, setting
from framework.data.cohort.store import Cohort
from framework.errors import UserError


@configurable("origins")
class Origins(ABC):
    """Chooses among the visits of a cohort, by what was known at each of them."""

    @abstractmethod
    def __call__(self, cohort: Cohort) -> Bool[np.ndarray, "n t"]: ...


@dataclass(frozen=True)
class Each(Origins):
    """Every visit."""

    def __call__(self, cohort: Cohort) -> Bool[np.ndarray, "n t"]:
        return cohort.valid


EVERY = Each()


@dataclass(frozen=True)
class First(Origins):
    """Each subject's first visit."""

    def __call__(self, cohort: Cohort) -> Bool[np.ndarray, "n t"]:
        return cohort.valid & (np.arange(cohort.times.shape[1]) == 0)


@dataclass(frozen=True)
class Landmark(Origins):
    """The last visit up to `years` after the first: each subject once, at about the same time in the study."""

    years: float

    def __post_init__(self):
        if self.years < 0:
            raise UserError(f"origins.years is {self.years}; expected 0 or more years after the first visit")

    def __call__(self, cohort: Cohort) -> Bool[np.ndarray, "n t"]:
        return last_of(cohort.valid & (cohort.times <= self.years))


@dataclass(frozen=True)
class On(Origins):
    """The last visit before a day of the calendar: what was known that morning."""

    date: str

    def __call__(self, cohort: Cohort) -> Bool[np.ndarray, "n t"]:
        return last_of(cohort.valid & (dates(cohort) < setting(self.date, "origins.date")))


def last_of(some: Bool[np.ndarray, "n t"]) -> Bool[np.ndarray, "n t"]:
    """The last visit of each row among some."""
    visits = np.arange(some.shape[1])
    return some & (visits == np.where(some, visits, -1).max(1, initial=-1)[:, None])
