"""Splits by a day of the calendar."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from framework.data.cohort.as_of import known
from framework.data.cohort.dates import dates, setting
from framework.data.cohort.store import Cohort
from framework.data.splits.split import Split, Splitter, cut, dealt, enough


@dataclass(frozen=True)
class Temporal(Splitter):
    """Learning from what was known before `date`, of no subject anything later; forecasting visits on and after it.

    With `folds` None those are tested who first came on or after the day. With a number those are tested, in so many
    folds, who were seen before and after it: a model has then seen neither them nor the future of anybody else.
    """

    date: str
    folds: int | None
    validation: float
    fold: int
    seed: int

    def __post_init__(self):
        setting(self.date, "split.date")
        if self.folds is not None:
            enough(self.folds)

    def splits(self, cohort: Cohort, repeat: int = 0) -> list[Split]:
        """One split, or one a fold. Raises UserError where no subject was seen before the day, or none after it."""
        before, after = (np.any(some, axis=1) for some in (self._before(cohort), self.asks(cohort)))
        if self.folds is None:
            return [cut(after & ~before, self.validation, [self.seed, repeat, 0])]
        late = {int(row): f"first came on or after {self.date}" for row in np.flatnonzero(~before)}
        both = np.flatnonzero(before & after)
        fold = np.full(len(before), -1)
        fold[both] = dealt(np.random.default_rng([self.seed, repeat]).permutation(len(both)), self.folds)
        return [cut(fold == k, self.validation, [self.seed, repeat, k], late) for k in range(self.folds)]

    def known(self, cohort: Cohort) -> Cohort:
        """The visits before the day, and what was recorded by then."""
        day = setting(self.date, "split.date") - dates(cohort)[:, 0]
        return known(cohort, self._before(cohort).sum(1), np.maximum(day, 0))

    def asks(self, cohort: Cohort) -> Bool[np.ndarray, "n t"]:
        return cohort.valid & ~self._before(cohort)

    def _before(self, cohort: Cohort) -> Bool[np.ndarray, "n t"]:
        return cohort.valid & (dates(cohort) < setting(self.date, "split.date"))
