"""The headline metric in every subgroup, beside all others: by who subjects are, and by years ahead."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Bool, Float

from framework.data.cohort.schema import Variable
from framework.data.cohort.store import Cohort
from framework.data.splits.groups import first_values, natural
from framework.evaluate.inference.bca_interval import Spread
from framework.evaluate.inference.bootstrap import Scores, scores
from framework.evaluate.inference.corrected_ttest import widening
from framework.evaluate.inference.multiple_comparisons import holm
from framework.evaluate.leaderboard import known
from framework.evaluate.metrics.registry import headline
from framework.evaluate.outcomes import Outcomes

FEWEST = 10  # subjects in a subgroup and outside it; smaller ones are left out
BAND = 10  # years of age


@dataclass(frozen=True)
class Group:
    """A model's headline metric in one subgroup, less that of all others (paired resamples of the subjects).

    `p` is of no difference, all subgroups of a target and model held to one error rate (Holm). `comparable` and
    `reason` are those of a leaderboard's row.
    """

    target: str
    metric: str
    by: str
    level: str
    pairs: int
    subjects: int
    model: str
    value: float | None
    low: float | None
    high: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    p: float | None
    comparable: int | None = None
    reason: str | None = None


def subgroup_labels(cohort: Cohort, subjects: Sequence[str]) -> dict[str, list[str]]:
    """Labels that assign subjects to subgroups: levels, sites and the class when first seen, and bands of age."""
    place = {subject: i for i, subject in enumerate(cohort.subjects)}
    rows = [place[subject] for subject in subjects]
    wanted = [v for v in cohort.schema.static if v.levels and _describes(v)]
    wanted += [v for v in cohort.schema.variables if _describes(v) and (v.per_year == 1 or _is_class_of_first_visit(v))]
    return {v.name: [_labels(cohort, v)[row] for row in rows] for v in wanted}


def _describes(variable: Variable) -> bool:
    return not {"hindsight", "date"} & set(variable.roles)


def _is_class_of_first_visit(variable: Variable) -> bool:
    return bool(variable.levels) and bool({"group", "target"} & set(variable.roles))


def _labels(cohort: Cohort, variable: Variable) -> list[str]:
    _, value, has = first_values(cohort, variable.name)

    def one(number: float) -> str:
        if variable.levels:
            return variable.levels[int(number)]
        low = int(number // BAND) * BAND
        return f"{low} to {low + BAND - 1}"

    return [one(float(number)) if here else "" for number, here in zip(value, has, strict=True)]


def subgroups(
    outcomes: Sequence[Outcomes], labels: Mapping[str, Sequence[str]], resamples: int = 2000, seed: int = 0
) -> list[Group]:
    """The fairness table of all targets; `labels` has one for each of an outcome's subjects, "" where unknown."""
    return [row for one in outcomes for row in _target(one, labels, resamples, seed)]


def _target(one: Outcomes, labels: Mapping[str, Sequence[str]], resamples: int, seed: int) -> list[Group]:
    parts = [
        (by, level, here)
        for by, of_query in _by_query(one, labels).items()
        for level in sorted(set(of_query.tolist()) - {""}, key=natural)
        for here in [of_query == level]
        if min(_count(one, here), _count(one, ~here)) >= FEWEST
    ]
    rows = [row for part in parts for row in _part(one, *part, resamples, seed)]
    for model in one.forecasts:
        own = [i for i, row in enumerate(rows) if row.model == model and row.p is not None]
        for i, p in zip(own, holm(np.array([rows[i].p for i in own], float)), strict=True):
            rows[i] = replace(rows[i], p=float(p))
    return rows


def _by_query(one: Outcomes, labels: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
    ahead = np.ceil(np.maximum(one.time - one.origin_time, 1e-6)).astype(int)
    return {by: np.array(names, object)[one.subject] for by, names in labels.items()} | {
        "years ahead": np.array([f"{year - 1} to {year}" for year in ahead], object)
    }


def _count(one: Outcomes, here: Bool[np.ndarray, " q"]) -> int:
    return len(np.unique(one.subject[here]))


def _part(one: Outcomes, by: str, level: str, here: Bool[np.ndarray, " q"], resamples: int, seed: int) -> list[Group]:
    metric = headline(one.target)

    def of(forecast: Float[np.ndarray, "r q p"], weight: Bool[np.ndarray, " q"]) -> Scores:
        found = scores(
            (metric,),
            forecast[None],
            one.truth,
            one.subject,
            subjects=len(one.subjects),
            resamples=resamples,
            key=jax.random.key(seed),
            weight=weight.astype(float),
            fold=one.fold[: len(forecast)],
        )
        return jax.tree.map(lambda x: np.asarray(x, np.float64)[..., 0, 0], found)

    rows = []
    for model, forecast in one.forecasts.items():
        own, rest = ([float(x.value), x.draws, x.without] for x in (of(forecast, here), of(forecast, ~here)))
        widened = widening(one.fold[: len(forecast)])
        spread = Spread.of(*own, smooth=metric.smooth, widened=widened, bounds=metric.bounds)
        gap = Spread.of(*(a - b for a, b in zip(own, rest, strict=True)), widened=widened)
        numbers = (spread.value, *spread.interval(), gap.value, *gap.interval(), gap.p_value())
        facts = one.target.name, metric.name, by, level, int(here.sum()), _count(one, here), model
        count, reason = metric.why(one.truth[here], one.fold[: len(forecast), here], one.levels)
        reason = reason if np.isnan(spread.value) else None
        rows.append(Group(*facts, *map(known, numbers), comparable=count, reason=reason))
    return rows


def write(rows: Sequence[Group], run: Path) -> None:
    """Write `subgroups.json` into the run folder."""
    (run / "subgroups.json").write_text(json.dumps([asdict(row) for row in rows], indent=1, allow_nan=False))


def read(run: Path) -> list[Group]:
    """Read what `write` wrote."""
    return [Group(**row) for row in json.loads((run / "subgroups.json").read_text())]
