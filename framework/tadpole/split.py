"""A split that makers of a challenge gave visit by visit: some to learn from, some to forecast from."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from framework.data.cohort.as_of import known
from framework.data.cohort.store import Cohort
from framework.data.queries.origins import Origins, last_of
from framework.data.splits.groups import first_values
from framework.data.splits.split import Split, Splitter, cut
from framework.errors import UserError


@dataclass(frozen=True)
class Leaderboard(Splitter):
    """Test subjects have visits of the level `test` of the group `by`; tested are visits that the group does not name.

    Subjects with visits of the level `train` alone are learnt from, up to their last such visit.
    """

    by: str
    train: str
    test: str
    validation: float
    fold: int
    seed: int

    def splits(self, cohort: Cohort, repeat: int = 0) -> list[Split]:
        """One split. Raises UserError where the cohort has no such group or levels."""
        learns, tested = (np.any(marked(cohort, self.by, level), axis=1) for level in (self.train, self.test))
        out = {int(row): f"neither {self.train} nor {self.test}" for row in np.flatnonzero(~learns & ~tested)}
        return [cut(tested, self.validation, [self.seed, repeat, 0], out)]

    def known(self, cohort: Cohort) -> Cohort:
        """Visits up to each subject's last named one."""
        count = np.arange(1, cohort.times.shape[1] + 1)
        return known(cohort, np.where(self._named(cohort), count, 0).max(1, initial=0))

    def asks(self, cohort: Cohort) -> Bool[np.ndarray, "n t"]:
        return cohort.valid & ~self._named(cohort)

    def _named(self, cohort: Cohort) -> Bool[np.ndarray, "n t"]:
        return marked(cohort, self.by, self.train) | marked(cohort, self.by, self.test)


@dataclass(frozen=True)
class Marked(Origins):
    """The last visit of a level of a group: from where a challenge asks."""

    by: str
    level: str

    def __call__(self, cohort: Cohort) -> Bool[np.ndarray, "n t"]:
        return last_of(marked(cohort, self.by, self.level))


def marked(cohort: Cohort, by: str, level: str) -> Bool[np.ndarray, "n t"]:
    """Which visits have that level of a visit variable. Raises UserError where it is none."""
    variable, _, _ = first_values(cohort, by)
    if variable not in cohort.schema.variables or level not in variable.levels:
        raise UserError(f"{by!r} with the level {level!r} marks no visits; expected one of {list(variable.levels)}")
    place = cohort.column(by)
    return cohort.valid & cohort.observed[..., place] & (cohort.values[..., place] == variable.levels.index(level))
