"""Every metric of every model with its interval, and its paired difference to the reference forecasts."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from framework.errors import UserError
from framework.evaluate.inference.bca_interval import Spread
from framework.evaluate.inference.bootstrap import Scores, scores
from framework.evaluate.inference.corrected_ttest import corrected, widening
from framework.evaluate.inference.multiple_comparisons import letters, places
from framework.evaluate.metrics.base import Metric
from framework.evaluate.metrics.registry import metrics_for
from framework.evaluate.outcomes import Outcomes
from framework.types import Arr


@dataclass(frozen=True)
class Estimate:
    """A value and its 95% interval; None is what is undefined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference(Estimate):
    """A paired difference with the p-value of its being 0, and that of the headline metric's over repeated folds."""

    p: float | None
    over_folds: float | None


@dataclass(frozen=True)
class Row:
    """One metric of one model. A target's rows come metric by metric, the headline metric first.

    `better` is "lower", "higher" or the number to be near to; `undefined` counts the resamples in which the metric
    could not be taken (an AUC where all truths are alike), which the interval leaves out. Models that share one of the
    `letters` are not statistically distinguishable by this metric, at one error rate of 5% for all pairs. `rank` is the
    place among the models, 1 the best, from `rank_low` to `rank_high` in 95% of the resamples; None in an older run.
    `comparable` is how many pairs of forecasts a ranking compares, all within folds, in the repeat with fewest; None
    for other scores. `reason` says why there is no value.
    """

    model: str
    target: str
    metric: str
    better: str | float
    unit: str | None
    value: float | None
    low: float | None
    high: float | None
    undefined: int
    pairs: int
    subjects: int
    letters: str
    differences: Mapping[str, Difference]
    rank: float | None = None
    rank_low: float | None = None
    rank_high: float | None = None
    comparable: int | None = None
    reason: str | None = None

    def loss(self) -> float:
        """The smaller the better, whatever the metric; infinite where the value is undefined."""
        return math.inf if self.value is None else _loss(self.value, self.better)


def _loss(value: Any, better: str | float) -> Any:
    if isinstance(better, str):
        return value if better == "lower" else -value
    return abs(value - better)


def leaderboard(
    outcomes: Sequence[Outcomes], references: Sequence[str], resamples: int = 2000, seed: int = 0
) -> list[Row]:
    """Score all models on all targets; `references` names the reference forecasts, each used where it
    answered the target.

    Raises UserError for a reference that answered no target.
    """
    models = {model for one in outcomes for model in one.forecasts}
    for name in references:
        if name not in models:
            raise UserError(f"the reference {name!r} answered no target; expected some of {sorted(models)}")
    return [row for one in outcomes for row in _rows(one, references, resamples, seed)]


def _rows(one: Outcomes, references: Sequence[str], resamples: int, seed: int) -> list[Row]:
    metrics, models = metrics_for(one.target), list(one.forecasts)
    took = [len(forecast) for forecast in one.forecasts.values()]
    found = {count: _scores(one, one.sharing(count), metrics, resamples, seed) for count in sorted(set(took))}
    widened = {count: widening(one.fold[:count]) for count in found}
    places = [models.index(name) for name in references if name in models]
    by_fold = [_by_fold(metrics[0], forecast, one, int(one.fold.max()) + 1) for forecast in one.forecasts.values()]
    return [
        row
        for k, metric in enumerate(metrics)
        for paired in [Paired(found, took, k, metric, widened)]
        for row in _metric(one, metric, models, paired, places, None if k else by_fold)
    ]


def _scores(
    one: Outcomes, forecasts: Mapping[str, np.ndarray], metrics: tuple[Metric, ...], resamples: int, seed: int
) -> Scores:
    forecast = np.stack(list(forecasts.values()))
    found = scores(
        metrics,
        forecast,
        one.truth,
        one.subject,
        subjects=len(one.subjects),
        resamples=resamples,
        key=jax.random.key(seed),
        fold=one.fold[: forecast.shape[1]],
    )
    return jax.tree.map(lambda x: np.asarray(x, np.float64), found)


@dataclass(frozen=True)
class Paired:
    """One metric of all models on the same resamples.

    `found` has the scores over so many repeats, of the models that took part in as many; `took` says in how many each
    did. Two models are compared over the repeats, and so the folds, in which both took part. `widened` is what those
    folds owe to the subjects they share for training.
    """

    found: Mapping[int, Scores]
    took: Sequence[int]
    place: int
    metric: Metric
    widened: Mapping[int, float]

    def spread(self, model: int, reference: int | None = None) -> Spread:
        """The estimate of a model's score, or of its difference to another's, which no bound folds."""
        if reference is None:
            took, metric = self.took[model], self.metric
            return Spread.of(*self._of(model, took), metric.smooth, self.widened[took], metric.bounds)
        both = min(self.took[model], self.took[reference])
        own, other = self._of(model, both), self._of(reference, both)
        return Spread.of(own[0] - other[0], own[1] - other[1], own[2] - other[2], widened=self.widened[both])

    def undefined(self, model: int) -> int:
        """In how many resamples the model's score is."""
        return int(np.isnan(self._of(model, self.took[model])[1]).sum())

    def _of(self, model: int, repeats: int) -> tuple[float, np.ndarray, np.ndarray]:
        found, column = self.found[repeats], sum(took >= repeats for took in self.took[:model])
        value, draws, without = (
            np.asarray(x)[..., self.place, column] for x in (found.value, found.draws, found.without)
        )
        return float(value), draws, without

    def losses(self, better: str | float) -> Float[np.ndarray, "b m"]:
        """In every resample, moved from what was observed as far as an interval is; the less, the better."""
        both = [(self._of(model, repeats), self.widened[repeats]) for model, repeats in enumerate(self.took)]
        draws = [value + widened * (drawn - value) for (value, drawn, _), widened in both]
        return _loss(np.stack(draws, axis=1), better)


def _metric(
    one: Outcomes,
    metric: Metric,
    models: Sequence[str],
    paired: Paired,
    references: Sequence[int],
    by_fold: Sequence[Float[np.ndarray, "_ f"]] | None,
) -> list[Row]:
    spreads = [paired.spread(m) for m in range(len(models))]
    between = np.ones((len(models), len(models)))
    for i, j in combinations(range(len(models)), 2):
        between[i, j] = between[j, i] = paired.spread(i, j).p_value()
    losses = [math.inf if math.isnan(s.value) else _loss(s.value, metric.better) for s in spreads]
    groups = letters(losses, np.nan_to_num(between, nan=1.0))
    placed = places(np.array(losses), paired.losses(metric.better))

    def difference(m: int, reference: int) -> Difference:
        over_folds = math.nan
        if by_fold is not None and (folds := by_fold[m].shape[1]) > 1:
            gaps = [a - b for a, b in zip(by_fold[m], by_fold[reference], strict=False)]  # of the repeats of both
            over_folds = corrected(np.ravel(gaps), tested=1.0, trained=folds - 1.0)[2]
        numbers = (*_numbers(paired.spread(m, reference)), between[m, reference], over_folds)
        return Difference(*map(known, numbers))

    asked = [metric.why(one.truth, one.fold[:repeats], one.levels) for repeats in paired.took]
    return [
        Row(
            model=model,
            target=one.target.name,
            metric=metric.name,
            better=metric.better,
            unit=metric.unit,
            **dict(zip(("value", "low", "high"), map(known, _numbers(spreads[m])), strict=True)),
            undefined=paired.undefined(m),
            pairs=len(one.truth),
            subjects=len(one.subjects),
            letters=groups[m],
            differences={models[f]: difference(m, f) for f in references if f != m},
            **dict(zip(("rank", "rank_low", "rank_high"), map(known, placed[m]), strict=True)),
            comparable=asked[m][0],
            reason=asked[m][1] if math.isnan(spreads[m].value) else None,
        )
        for m, model in enumerate(models)
    ]


def _by_fold(
    metric: Metric, forecast: Float[np.ndarray, "r q p"], one: Outcomes, folds: int
) -> Float[np.ndarray, "r f"]:
    found = in_folds(metric, forecast, one.truth, one.subject, one.fold[: len(forecast)], folds)
    return np.asarray(found, np.float64)


@partial(jax.jit, static_argnames=("metric", "folds"))
def in_folds(
    metric: Metric,
    forecast: Float[Arr, "r q p"],
    truth: Float[Arr, "q ..."],
    subject: Int[Arr, " q"],
    fold: Int[Arr, "r q"],
    folds: int,
) -> Float[Array, "r f"]:
    """A metric of one model in each fold of each repeat: folds are weights."""
    weights = (jnp.asarray(fold)[:, None] == jnp.arange(folds)[:, None]).astype(float)
    weighed = jax.vmap(jax.vmap(metric.weigh, (0, None)), (0, None))(weights, subject)

    def repeat(forecast: Float[Array, "q p"], weights: Float[Array, "f q"]) -> Float[Array, " f"]:
        return jax.vmap(partial(metric.score, metric.prepare(forecast, truth)))(weights)

    return jax.vmap(repeat)(jnp.asarray(forecast), weighed)


def _numbers(spread: Spread) -> tuple[float, float, float]:
    return spread.value, *spread.interval()


def known(value: float) -> float | None:
    """A number, or None for what is undefined."""
    return None if math.isnan(value) else float(value)


def write(rows: Sequence[Row], resamples: int, run: Path) -> None:
    """Write `leaderboard.json` into the run folder."""
    tree = {"resamples": resamples, "rows": [asdict(row) for row in rows]}
    (run / "leaderboard.json").write_text(json.dumps(tree, indent=1, allow_nan=False))


def read(run: Path) -> tuple[list[Row], int]:
    """The rows and the number of resamples that `write` wrote."""
    tree = json.loads((run / "leaderboard.json").read_text())
    rows = [
        Row(**(row | {"differences": {name: Difference(**e) for name, e in row["differences"].items()}}))
        for row in tree["rows"]
    ]
    return rows, tree["resamples"]
