"""Every metric of every model with its interval, and its paired difference to the models taken as floors."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float

from framework.errors import UserError
from framework.evaluate.bootstrap import interval, scores
from framework.evaluate.metric import Metric
from framework.evaluate.metrics import metrics_for
from framework.evaluate.outcomes import Outcomes


@dataclass(frozen=True)
class Estimate:
    """A value and its 95% interval; None is what is undefined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Row:
    """One metric of one model. A target's rows come metric by metric, the headline metric first.

    `better` is "lower", "higher" or the number to be near to; `undefined` counts the resamples in which the metric
    could not be taken (an AUC where all truths are alike), which the interval leaves out.
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
    differences: Mapping[str, Estimate]

    def loss(self) -> float:
        """The smaller the better, whatever the metric; infinite where the value is undefined."""
        if self.value is None:
            return math.inf
        if isinstance(self.better, str):
            return self.value if self.better == "lower" else -self.value
        return abs(self.value - self.better)


def leaderboard(
    outcomes: Sequence[Outcomes], reference: Sequence[str], resamples: int = 2000, seed: int = 0
) -> list[Row]:
    """Score all models on all targets; `reference` names the floors, each compared to where it answered the target.

    Raises UserError for a floor that answered no target.
    """
    models = {model for one in outcomes for model in one.forecasts}
    for name in reference:
        if name not in models:
            raise UserError(f"the reference {name!r} answered no target; expected some of {sorted(models)}")
    return [row for one in outcomes for row in _rows(one, reference, resamples, seed)]


def _rows(one: Outcomes, reference: Sequence[str], resamples: int, seed: int) -> list[Row]:
    metrics, models = metrics_for(one.target), list(one.forecasts)
    forecasts = np.stack([one.forecasts[model] for model in models])
    values, draws = scores(
        metrics,
        forecasts,
        one.truth,
        one.subject,
        subjects=len(one.subjects),
        resamples=resamples,
        key=jax.random.key(seed),
    )
    values, draws = np.asarray(values, np.float64), np.asarray(draws, np.float64)
    floors = [models.index(name) for name in reference if name in models]
    return [
        _row(one, metric, models, m, values[k], draws[:, k], floors)
        for k, metric in enumerate(metrics)
        for m in range(len(models))
    ]


def _row(
    one: Outcomes,
    metric: Metric,
    models: list[str],
    m: int,
    values: Float[np.ndarray, " m"],
    draws: Float[np.ndarray, "b m"],
    floors: list[int],
) -> Row:
    return Row(
        model=models[m],
        target=one.target.name,
        metric=metric.name,
        better=metric.better,
        unit=metric.unit,
        **asdict(_estimate(values[m], draws[:, m])),
        undefined=int(np.isnan(draws[:, m]).sum()),
        pairs=len(one.truth),
        subjects=len(one.subjects),
        differences={models[f]: _estimate(values[m] - values[f], draws[:, m] - draws[:, f]) for f in floors if f != m},
    )


def _estimate(value: float, draws: Float[np.ndarray, " b"]) -> Estimate:
    return Estimate(*(None if math.isnan(x) else float(x) for x in (value, *interval(draws))))


def write(rows: Sequence[Row], resamples: int, run: Path) -> None:
    """Write `leaderboard.json` into the run folder."""
    tree = {"resamples": resamples, "rows": [asdict(row) for row in rows]}
    (run / "leaderboard.json").write_text(json.dumps(tree, indent=1, allow_nan=False))


def read(run: Path) -> tuple[list[Row], int]:
    """The rows and the number of resamples that `write` wrote."""
    tree = json.loads((run / "leaderboard.json").read_text())
    rows = [
        Row(**(row | {"differences": {name: Estimate(**e) for name, e in row["differences"].items()}}))
        for row in tree["rows"]
    ]
    return rows, tree["resamples"]
