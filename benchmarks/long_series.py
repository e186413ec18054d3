"""Errors of every head on long irregular series, beside history features and the exact forecast.

    python -m experiments.compare +experiment=long_series
    python -m benchmarks.long_series runs/compare/<hash> [runs/compare/<hash> ...]

Reads finished runs on `data=rhythm` whose queries are the next visits, pools the models of runs with equal queries, and
adds the posterior predictive of the generator (`framework.data.simulate.kalman`) for the same queries. Prints a table
and one JSON line; writes `results/long_series.json` and, as `results/long_series.svg`, the error by visits seen.

`ratio` is the excess error over the exact forecast of the worst of GRU-D, ODE-RNN, SSM and transformer, divided by that
of the best of minimalRNN and history features: below 1 all four are better.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from benchmarks.ceiling import finished, shared
from benchmarks.measure import RESULTS
from framework.data.cohort.store import Cohort, open_cohort
from framework.data.simulate.kalman import forecasts
from framework.errors import UserError
from framework.evaluate import leaderboard, outcomes
from framework.evaluate.outcomes import Outcomes
from framework.report.exhibits.horizon import error
from framework.report.spread import Resampling
from framework.report.svg import Panel, panel, pens, standalone

ORACLE = "exact"
EXPECTED_BETTER = ("gru_d", "ode_rnn", "ssm", "transformer")
BASELINES = ("minimal_rnn", "ridge", "boosting")
REFERENCES = ("last_visit", "mean_pool")
SERIES = ("symptoms", "activity", "marker", "dose")
ENDS = (0, 5, 10, 20, 40, 80, 120, 200)  # visits seen
METRICS = {"MAE": "mae", "pinball": "pinball", "coverage of 90%": "coverage_90"}


def main(runs: Sequence[Path], results: Path = RESULTS) -> dict:
    """Evaluate finished runs; write the record and its figure."""
    manifests = [finished(run) for run in runs]
    found = with_exact(pool(runs), open_cohort(manifests[0]["data"]["store"]))
    cases = score(found, [name for name in BASELINES if name in found.forecasts])
    for name, case in sorted(cases.items(), key=lambda item: item[1]["mae"]):
        print(f"{name:12} MAE {case['mae']:.3f} [{case['mae_interval'][0]:.3f}, {case['mae_interval'][1]:.3f}]")
    for name, by_length in mae_by_visits_seen(found).items():
        cases[name]["mae_by_visits_seen"] = by_length
    result = {
        "benchmark": "long_series",
        "device": shared(manifest["device"]["kind"] for manifest in manifests),
        "ratio": ratio(cases),
        "cases": cases,
        "forecasts": len(found.truth),
        "subjects": len(found.subjects),
        "commit": shared(manifest["commit"] for manifest in manifests),
        "fingerprint": manifests[0]["data"]["fingerprint"],
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    results.mkdir(exist_ok=True)
    (results / "long_series.json").write_text(json.dumps(result, indent=1) + "\n")
    (results / "long_series.svg").write_text(figure(cases))
    print(json.dumps(result))
    return result


def pool(runs: Sequence[Path]) -> Outcomes:
    """Pool the forecasts of activity of all runs. Raises UserError where cohorts or queries differ."""
    parts = [outcomes.read(run)[0] for run in runs]
    first = parts[0]
    for run, part in zip(runs, parts, strict=True):
        equal = part.subjects == first.subjects and np.array_equal(part.truth, first.truth)
        if finished(run)["data"]["name"] != "rhythm" or part.target.name != "activity" or not equal:
            raise UserError(
                f"{run} has other queries than {runs[0]}; name runs of +experiment=long_series on one split"
            )
    return replace(first, forecasts={name: values for part in parts for name, values in part.forecasts.items()})


def with_exact(found: Outcomes, cohort: Cohort) -> Outcomes:
    """Add the exact forecasts of the same queries."""
    rows = [cohort.subjects.index(subject) for subject in found.subjects]
    columns = [cohort.column(name) for name in SERIES]
    observed = cohort.observed[rows][..., columns]
    values = np.where(observed, cohort.values[rows][..., columns], 0)
    exact = forecasts(cohort.times[rows], values, observed, cohort.valid[rows])[found.subject, found.origin + 1]
    return replace(found, forecasts={**found.forecasts, ORACLE: np.tile(exact, (len(found.fold), 1, 1))})


def score(found: Outcomes, reference: Sequence[str]) -> dict[str, dict]:
    """Return each model's metrics, the interval of its MAE, and its paired differences to `reference`."""
    cases: dict[str, dict] = {name: {} for name in found.forecasts}
    for row in leaderboard.leaderboard([found], reference):
        if row.metric in METRICS:
            cases[row.model][METRICS[row.metric]] = _rounded(row.value)[0]
        if row.metric == "MAE":
            cases[row.model]["mae_interval"] = _rounded(row.low, row.high)
            minus = {name: _rounded(other.value, other.low, other.high) for name, other in row.differences.items()}
            cases[row.model]["mae_minus"] = minus
    return cases


def _rounded(*numbers: float | None) -> list[float]:
    return [round(number, 4) for number in numbers if number is not None]


def mae_by_visits_seen(found: Outcomes) -> dict[str, dict[str, list[float]]]:
    """Return the MAE of each model, with its interval, by the number of visits seen."""
    seen = found.origin + 1
    inside = np.array([(seen > low) & (seen <= high) for low, high in pairwise(ENDS)]).T
    names = [f"{low + 1}-{high}" for low, high in pairwise(ENDS)]

    def binned(model: str) -> Float[np.ndarray, "3 k"]:
        errors = np.repeat(error(found, model).mean(0)[:, None], len(names), axis=1)
        fold = found.fold[: len(found.forecasts[model])]
        return Resampling(2000).means(errors, inside.astype(float), found.subject, len(found.subjects), fold)

    return {model: dict(zip(names, binned(model).T.round(4).tolist(), strict=True)) for model in found.forecasts}


def ratio(cases: Mapping[str, Mapping]) -> float:
    """Excess MAE of the worst of `EXPECTED_BETTER` over that of the best of `BASELINES`."""
    excess = {name: case["mae"] - cases[ORACLE]["mae"] for name, case in cases.items()}
    worst, best = (
        max(excess[name] for name in EXPECTED_BETTER if name in excess),
        min(excess[n] for n in BASELINES if n in excess),
    )
    return round(worst / best, 3)


def figure(cases: Mapping[str, Mapping]) -> str:
    """Draw the error of every model by the number of visits seen, as a standalone SVG."""
    drawn = pens(list(cases), [*REFERENCES, ORACLE])
    names = list(cases[ORACLE]["mae_by_visits_seen"])

    def draw(axes: Axes) -> None:
        for model in sorted(cases, key=lambda name: -cases[name]["mae"]):
            value, low, high = np.array(list(cases[model]["mae_by_visits_seen"].values())).T
            x, pen = np.arange(len(names)), drawn[model]
            axes.plot(x, value, color=pen.colour, marker=pen.mark, linewidth=1, label=model)
            axes.vlines(x, low, high, color=pen.colour, linewidth=1, alpha=0.4)
        axes.set_xticks(np.arange(len(names)), names)
        axes.set(xlabel="visits seen", ylabel="absolute error (points)")
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)

    caption = "Mean absolute error of the next visit's activity by the number of visits seen, with 95% intervals"
    made: Panel = panel("long-series", "Error by visits seen", caption, draw, (7.2, 4.2))
    return standalone(made, drawn)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m benchmarks.long_series RUN [RUN ...]")
    try:
        main([Path(run) for run in sys.argv[1:]])
    except UserError as problem:
        sys.exit(f"error: {problem}")
