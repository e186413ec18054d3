"""Splits into training, validation and test subjects: always whole subjects."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np
from jaxtyping import Bool, Int

from framework.configurable import configurable
from framework.data.cohort.store import Cohort
from framework.data.ingest.tables.table_file import locate, read_sheet
from framework.data.splits.groups import first_values, natural, stratum
from framework.errors import UserError

ROLES = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Three disjoint sets of subjects, as masks over the cohort's subjects; `out` says why others are in none."""

    train: Bool[np.ndarray, " n"]
    validation: Bool[np.ndarray, " n"]
    test: Bool[np.ndarray, " n"]
    out: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self):
        twice = self.train.astype(int) + self.validation + self.test > 1
        if twice.any():
            raise UserError(
                f"{twice.sum()} subjects are in more than one of train, validation and test; split by subject"
            )
        for name in ("train", "test"):
            if not getattr(self, name).any():
                raise UserError(
                    f"no subject is left for {name}; use fewer folds, split.validation=0 or a larger cohort"
                )

    def roles(self) -> list[str]:
        """The role of each subject in words: train, validation, test, or why it has none."""
        named = [self.out.get(row, "out") for row in range(len(self.train))]
        for role in ROLES:
            for row in np.flatnonzero(getattr(self, role)):
                named[row] = role
        return named


@configurable("split")
class Splitter(ABC):
    """How a cohort is cut into folds; `fold` is the one that a single forecast tests."""

    fold: int

    @abstractmethod
    def splits(self, cohort: Cohort, repeat: int = 0) -> list[Split]: ...

    def known(self, cohort: Cohort) -> Cohort:
        """The part of the cohort that may be learnt from: here all of it."""
        return cohort

    def asks(self, cohort: Cohort) -> Bool[np.ndarray, "n t"] | None:
        """Which visits may be asked about where a forecaster is tested; None for every one."""
        return None

    def one(self, cohort: Cohort) -> Split:
        """The split of `fold`. Raises UserError where there is no such fold."""
        splits = self.splits(cohort)
        if not 0 <= self.fold < len(splits):
            raise UserError(f"split.fold is {self.fold}; expected 0 to {len(splits) - 1}")
        return splits[self.fold]


@dataclass(frozen=True)
class KFold(Splitter):
    """`folds` test folds of shuffled subjects; from the rest a share `validation` is set aside for early stopping.

    With a share of 0 no subject validates and training runs its full length. Subjects are dealt to folds evenly over
    the first observed levels of the variables `stratify` (of numbers: over their quarters).
    """

    folds: int
    validation: float
    fold: int
    seed: int
    stratify: Sequence[str] = ()

    def __post_init__(self):
        enough(self.folds)

    def splits(self, cohort: Cohort, repeat: int = 0) -> list[Split]:
        """One split a fold; repeats reshuffle. Without strata they depend on the number of subjects alone."""
        count = len(cohort.subjects)
        order = np.random.default_rng([self.seed, repeat]).permutation(count)
        strata = [stratum(*first_values(cohort, name)[1:]) for name in self.stratify]
        fold = dealt(order[np.lexsort([s[order] for s in strata[::-1]])] if strata else order, self.folds)
        return [cut(fold == k, self.validation, [self.seed, repeat, k]) for k in range(self.folds)]


@dataclass(frozen=True)
class ById(Splitter):
    """The one fold that a data set's makers gave: subjects whose id matches the pattern `test` are tested."""

    test: str
    validation: float
    fold: int
    seed: int

    def splits(self, cohort: Cohort, repeat: int = 0) -> list[Split]:
        """One split. Raises UserError where no subject's id matches, or each one's does."""
        test = np.array([fnmatchcase(subject, self.test) for subject in cohort.subjects])
        if test.all() or not test.any():
            raise UserError(
                f"split.test={self.test!r} matches {test.sum()} of {len(test)} subjects; expected some, not all: "
                f"their ids are such as {cohort.subjects[0]!r}"
            )
        return [cut(test, self.validation, [self.seed, repeat, 0])]


@dataclass(frozen=True)
class FromFile(Splitter):
    """Folds read from a table with the columns subject and fold, each subject once."""

    path: str
    validation: float
    fold: int
    seed: int

    def splits(self, cohort: Cohort, repeat: int = 0) -> list[Split]:
        """One split for each fold named in the file, numbered folds in order of number.

        Raises UserError where the file is absent or broken, or a subject is missing or in two folds.
        """
        fold = self._folds()
        absent = [subject for subject in cohort.subjects if subject not in fold]
        if absent:
            raise UserError(
                f"{self.path} names no fold for subject {absent[0]!r}; every subject of the cohort needs one"
            )
        of = np.array([fold[subject] for subject in cohort.subjects])
        names = sorted(set(of.tolist()), key=natural)
        if len(names) < 2:
            raise UserError(f"{self.path} has the one fold {names}; expected two or more")
        return [cut(of == name, self.validation, [self.seed, repeat, k]) for k, name in enumerate(names)]

    def _folds(self) -> dict[str, str]:
        sheet = read_sheet(locate(self.path, "split.path"), missing=())
        for column in ("subject", "fold"):
            sheet.require(column, "split")
        folds: dict[str, str] = {}
        for row in sheet.rows:
            subject, fold = row.cells["subject"], row.cells["fold"]
            if subject is None or fold is None:
                raise UserError(f"{row.where} lacks its subject or its fold; fill in both")
            if subject in folds:
                raise UserError(f"{self.path}: subject {subject!r} is in two folds; keep one row for each subject")
            folds[subject] = fold
        return folds


def dealt(order: Int[np.ndarray, " n"], folds: int) -> Int[np.ndarray, " n"]:
    """The fold of each subject, dealt in this order. Raises UserError where there are fewer subjects than folds."""
    if len(order) < folds:
        raise UserError(
            f"{len(order)} subjects cannot make {folds} folds; use split.folds={max(2, len(order) // 2)} or fewer"
        )
    fold = np.empty(len(order), int)
    fold[order] = np.arange(len(order)) % folds
    return fold


def enough(folds: int) -> None:
    """Raise UserError for fewer than two folds."""
    if folds < 2:
        raise UserError(f"split.folds is {folds}; expected 2 or more")


def cut(test: Bool[np.ndarray, " n"], share: float, seed: list[int], out: Mapping[int, str] | None = None) -> Split:
    """The split that tests these; a share of the others validates, and who is `out` does neither."""
    if not 0 <= share < 1:
        raise UserError(f"split.validation is {share}; expected a share from 0 to below 1")
    out = out or {}
    free = ~test & ~np.isin(np.arange(len(test)), [*out])
    rest = np.random.default_rng(seed).permutation(np.flatnonzero(free))
    validation = np.zeros_like(test)
    if share > 0:
        validation[rest[: max(1, round(share * len(rest)))]] = True
    return Split(free & ~validation, validation, test, out)
