"""Splits that leave one site out, or one scanner."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from framework.data.cohort.schema import Variable
from framework.data.cohort.store import Cohort
from framework.data.splits.groups import first_values, visited
from framework.data.splits.split import Split, Splitter, cut, enough
from framework.errors import UserError


@dataclass(frozen=True)
class ByGroup(Splitter):
    """Leave one site out: every value of the group `by` is tested by models that never saw anybody of it.

    `folds` shares the groups among so many folds of about equal size; None makes a fold of each. A subject belongs
    where it was first seen; a subject also seen in a group that is tested does not train for it, nor does one that
    belongs nowhere.
    """

    by: str
    folds: int | None
    validation: float
    fold: int
    seed: int

    def __post_init__(self):
        if self.folds is not None:
            enough(self.folds)

    def splits(self, cohort: Cohort, repeat: int = 0) -> list[Split]:
        """One split a group, in the order of its levels, or one a fold. Raises UserError where there is one group."""
        variable, home, has = first_values(cohort, self.by)
        if "group" not in variable.roles or not variable.levels:
            raise UserError(f"split.by={self.by!r} has the roles {list(variable.roles)}; expected a group with levels")
        count = len(variable.levels)
        members = np.bincount(home[has].astype(int), minlength=count)
        fold = self._fold_of(members, [self.seed, repeat])
        if fold.max() < 1:
            raise UserError(f"split.by={self.by!r} has one group of subjects; expected two or more")
        seen = visited(cohort, self.by, count)
        return [self._one(variable, k, fold, home, has, seen, [self.seed, repeat, k]) for k in range(fold.max() + 1)]

    def _fold_of(self, members: Int[np.ndarray, " g"], seed: list[int]) -> Int[np.ndarray, " g"]:
        """The fold of each group, -1 for one without subjects; the largest first to the fold that has the fewest."""
        some = np.flatnonzero(members)
        fold = np.full(len(members), -1)
        if self.folds is None:
            fold[some] = np.arange(len(some))
            return fold
        if len(some) < self.folds:
            raise UserError(f"{len(some)} groups cannot make {self.folds} folds; use split.folds={len(some)} or fewer")
        shuffled = np.random.default_rng(seed).permutation(some)
        sizes = np.zeros(self.folds, int)
        for group in shuffled[np.argsort(-members[shuffled], kind="stable")]:
            fold[group] = sizes.argmin()
            sizes[fold[group]] += members[group]
        return fold

    def _one(self, variable: Variable, k: int, fold, home, has, seen, seed: list[int]) -> Split:
        tested = fold == k
        test = has & tested[np.where(has, home, 0).astype(int)]
        crossed = ~test & (seen & tested).any(1)
        out = {int(row): f"no {self.by}" for row in np.flatnonzero(~has)}
        for row in np.flatnonzero(crossed):
            out[int(row)] = f"also seen at {variable.levels[int((seen[row] & tested).argmax())]}"
        return cut(test, self.validation, seed, out)
