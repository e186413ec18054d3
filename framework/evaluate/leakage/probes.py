"""Probes for leaks, for any forecaster: what it must not know is changed, and its forecasts must stay what they are.

    for leak in leaks(forecaster, examples, split, key): ...

A forecaster is fitted again for each change of the test subjects, so a probe takes six times as long as a fit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, Key

from framework.data.cohort.schema import Variable
from framework.data.cohort.store import Cohort
from framework.data.queries.examples import Examples
from framework.data.queries.origins import EVERY
from framework.data.splits.split import Split
from framework.evaluate.leakage.duplicate_subjects import Pairs, across, shared_scans, shared_visits
from framework.evaluate.leakage.future_leaks import future_dependence
from framework.evaluate.leakage.near_duplicates import Near, near
from framework.forecast.base import Fitted, Forecaster
from framework.forecast.predict import answers

PAIRED = 500  # labels among which two are sought to swap
ASKED = 64  # subjects whose forecasts are compared, half of them tested
EXACT, CLOSE = 0.0, 1e-4  # of a target's spread: less is rounding, where sums run in another order

Known = Callable[[Cohort], Cohort]

MEANINGS = {
    "two_ids": "subjects in different roles share visits that chance would not make alike",
    "duplicate_voxels": "subjects in different roles share scans",
    "near_duplicates": "subjects in different roles are as near each other as changed copies are, not as people are",
    "unrepeatable": "two fits with one key differ, so nothing else can be shown; make fits depend on the key alone",
    "training": "test subjects are among what it is trained on (rows split instead of subjects, or augmented before)",
    "selection": "labels of test subjects decide what is chosen (features, candidates or when to stop)",
    "normaliser": "means, scales or features are fitted on test subjects too",
    "imputer": "what stands in for missing values is fitted on test subjects too",
    "encoder": "scans of test subjects have trained what encodes or normalises scans",
    "later_visits": "forecasts change with visits after their origin",
    "later_labels": "forecasts change with the answers themselves",
    "visit_count": "forecasts change with how many visits follow their origin, or when",
    "hindsight": "forecasts change with variables known only afterwards",
}


@dataclass(frozen=True)
class Leak:
    """One thing that is known where it must not be: an id of `MEANINGS`, and what was found."""

    name: str
    found: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {MEANINGS[self.name]}{f' ({self.found})' if self.found else ''}"


def everything(cohort: Cohort) -> Cohort:
    """All of a cohort may be learnt from."""
    return cohort


def leaks(
    forecaster: Forecaster, examples: Examples, split: Split, key: Key[Array, ""], known: Known = everything
) -> list[Leak]:
    """Every leak that the probes find in cohort, split and forecaster; none of an honest design.

    `known(cohort)` is what may be learnt from (a temporal split keeps the future away).
    """
    probe, (found, _) = _Probe(forecaster, examples, split, key, known), twins(examples, [split])
    if not probe.same(probe.fit(examples.cohort), EXACT):
        return [*found, Leak("unrepeatable")]
    future = future_dependence(probe.fitted, examples, probe.rows)
    return [*found, *_of_test_subjects(probe), *(Leak(name) for name in future)]


def twins(examples: Examples, splits: Sequence[Split]) -> tuple[list[Leak], Near]:
    """Subjects who are tested by what was learnt from themselves, and what was compared to find their changed copies.

    They stand under another id, share voxels, or are copies that were mirrored, moved, noised or augmented otherwise.
    """
    cohort, roles = examples.cohort, [split.roles() for split in splits]
    same: dict[str, Pairs] = {"two_ids": shared_visits(cohort), "duplicate_voxels": shared_scans(cohort)}
    alike = near(cohort, examples.layout.modalities, {pair: 1 for pairs in same.values() for pair in pairs})
    found = []
    for name, pairs in (same | {"near_duplicates": alike.pairs}).items():
        apart = across(pairs, roles)
        if apart:
            one, other = (cohort.subjects[row] for row in next(iter(apart)))
            found.append(Leak(name, f"{len(apart)} pairs, such as {one!r} and {other!r}"))
    return found, alike


def _of_test_subjects(probe: "_Probe") -> list[Leak]:
    """The most specific change names the leak: a model trained on test subjects would respond to all of them."""
    cohort, test = probe.examples.cohort, probe.split.test
    columns = [target.index for target in probe.examples.layout.measured]
    if not probe.same(probe.fit(_nudged(cohort, test, columns)), CLOSE):
        return [Leak("training")]
    for shuffle in range(4):
        other = probe.fit(_relabelled(cohort, test, columns, shuffle))
        chosen = [name for name, what in probe.fitted.chosen.items() if other.chosen.get(name) != what]
        if chosen or not probe.same(other, CLOSE):
            return [Leak("selection", ", ".join(chosen))]
    other = probe.fit(_stretched(cohort, test))
    if not probe.same(other, EXACT):
        if probe.fitted.chosen != other.chosen:
            return [Leak("selection")]
        whole = probe.on(_filled(cohort))  # where nothing is missing, nothing is imputed
        other = whole.fit(_stretched(whole.examples.cohort, test))
        return [Leak("imputer" if whole.same(other, EXACT) else "normaliser")]
    if not probe.same(probe.fit(_thinned(cohort, test)), EXACT):
        return [Leak("imputer", "by what is missing of them, or when they came")]
    if any(cohort.present[name][test].any() for name in probe.fitted.layout.modalities):
        return [] if probe.same(probe.fit(_Rescanned.of(cohort, test)), EXACT) else [Leak("encoder")]
    return []


class _Probe:
    """A forecaster fitted once on everything as it is, and again on changed cohorts, always asked the same."""

    def __init__(self, forecaster: Forecaster, examples: Examples, split: Split, key: Key[Array, ""], known: "Known"):
        self.examples, self.split = examples, split
        self._forecaster, self._key, self._known = forecaster, key, known
        tested, others = np.flatnonzero(split.test), np.flatnonzero(split.train | split.validation)
        self.rows = [*tested[: ASKED // 2].tolist(), *others[: ASKED // 2].tolist()]
        self.fitted = self.fit(examples.cohort)
        self._answers = self._numbers(self.fitted)

    def fit(self, cohort: Cohort) -> Fitted:
        learnt = replace(self.examples, cohort=self._known(cohort), origins=EVERY, about=None)
        return self._forecaster.fit(learnt, self.split, self._key)

    def on(self, cohort: Cohort) -> "_Probe":
        """The same with another cohort for what it is."""
        return _Probe(self._forecaster, replace(self.examples, cohort=cohort), self.split, self._key, self._known)

    def same(self, fitted: Fitted, close: float) -> bool:
        """Whether it answers alike, bit by bit or up to a share of each target's spread."""
        asks = np.asarray(self.examples.eval_queries.query.valid)[self.rows]
        new = self._numbers(fitted)
        return all(
            np.abs(new[name][asks] - old[asks]).max(initial=0) <= close * np.std(old[asks])
            for name, old in self._answers.items()
        )

    def _numbers(self, fitted: Fitted) -> Mapping[str, Float[np.ndarray, "rows q p"]]:
        return answers(fitted, self.examples, self.rows, self.examples.eval_queries)


def _nudged(cohort: Cohort, test: Bool[np.ndarray, " n"], columns: list[int]) -> Cohort:
    """Swap two values of different test subjects for each target, about a tenth of the spread apart.

    What is fitted on all values together, a mean, a scale, a median, stays as it is.
    """
    values = cohort.values.copy()
    for column in columns:
        row, visit = (place[:PAIRED] for place in _labels(cohort, test, column))
        own = values[row, visit, column]
        gap = np.abs(own[:, None] - own)
        far = (gap == 0) | (row[:, None] == row)
        if not far.all():
            one, other = np.unravel_index(np.where(far, np.inf, np.abs(gap - 0.1 * own.std())).argmin(), gap.shape)
            values[row[[one, other]], visit[[one, other]], column] = own[[other, one]]
    return replace(cohort, values=values)


def _relabelled(cohort: Cohort, test: Bool[np.ndarray, " n"], columns: list[int], shuffle: int) -> Cohort:
    """The targets' values of test subjects change places: the highest for the lowest first, then at random."""
    values = cohort.values.copy()
    for column in columns:
        row, visit = _labels(cohort, test, column)
        order = np.argsort(values[row, visit, column], kind="stable")
        places = order[::-1] if shuffle == 0 else np.random.default_rng(shuffle).permutation(order)
        values[row[order], visit[order], column] = values[row[places], visit[places], column]
    return replace(cohort, values=values)


def _labels(cohort: Cohort, test: Bool[np.ndarray, " n"], column: int) -> tuple[np.ndarray, ...]:
    return np.nonzero(cohort.observed[..., column] & cohort.valid & test[:, None])


def _stretched(cohort: Cohort, test: Bool[np.ndarray, " n"]) -> Cohort:
    """Every number of test subjects is stretched and moved, every level another; their dates stay."""

    def other(values: np.ndarray, variables: Sequence[Variable]) -> np.ndarray:
        levels = np.array([len(v.levels) for v in variables])
        dated = np.array(["date" in v.roles for v in variables], bool)
        return np.where(levels > 0, (values + 1) % np.maximum(levels, 1), np.where(dated, values, 3 * values + 7))

    cell = test[:, None] & (cohort.static_observed if cohort.static.size else np.zeros_like(cohort.static, bool))
    seen = test[:, None, None] & cohort.observed
    return replace(
        cohort,
        values=np.where(seen, other(cohort.values, cohort.schema.variables), cohort.values),
        static=np.where(cell, other(cohort.static, cohort.schema.static), cohort.static),
    )


def _thinned(cohort: Cohort, test: Bool[np.ndarray, " n"]) -> Cohort:
    """Remove half of the test subjects' values, dates excepted, and put their visits further apart."""
    dated = np.array(["date" in v.roles for v in cohort.schema.variables], bool)
    visit, column = np.indices(cohort.observed.shape[1:])
    drop = test[:, None, None] & ((visit + column) % 2 == 0) & ~dated
    return replace(
        cohort,
        values=np.where(drop, 0, cohort.values),
        observed=cohort.observed & ~drop,
        times=np.where(test[:, None], 1.5 * cohort.times, cohort.times),
    )


def _filled(cohort: Cohort) -> Cohort:
    """Every gap filled by somebody's value, but for dates."""
    dated = np.array(["date" in v.roles for v in cohort.schema.variables], bool)
    observed = np.where(dated, cohort.observed, cohort.valid[..., None])
    return replace(
        cohort,
        values=_fill(cohort.values, cohort.observed, observed),
        observed=observed,
        static=_fill(cohort.static, cohort.static_observed, np.ones_like(cohort.static_observed)),
        static_observed=np.ones_like(cohort.static_observed),
    )


def _fill(table: np.ndarray, observed: np.ndarray, real: np.ndarray) -> np.ndarray:
    made = table.copy()
    for column in range(table.shape[-1]):
        own, gap = table[..., column][observed[..., column]], (real & ~observed)[..., column]
        if len(own):
            made[..., column][gap] = np.resize(own, gap.sum())
    return made


class _Rescanned(Cohort):
    """A cohort in which the scans of some subjects are other scans."""

    honest: Any
    where: Any

    @staticmethod
    def of(cohort: Cohort, where: Bool[np.ndarray, " n"]) -> Cohort:
        made = _Rescanned(**{field.name: getattr(cohort, field.name) for field in fields(Cohort)})
        made.__dict__.update(honest=cohort, where=where)
        return made

    def voxels(self, modality: str, subject: int, visit: int) -> Float[np.ndarray, "x y z c"]:
        scan = self.honest.voxels(modality, subject, visit)
        return np.flip(scan * 3 + 1, 0).copy() if self.where[subject] else scan
