"""Every head on long irregular series, beside history features and the exact forecast, by how much was seen.

    python -m experiments.compare +experiment=long_series
    python -m benchmarks.long_series runs/long_series/<hash>

Takes a finished run on `data=rhythm ask=next` and asks the generator's own posterior predictive
(`framework.data.simulate.kalman`) the questions the run was tested by. Prints a table and one JSON line; writes
`results/long_series.json` and, the error of every model by the number of visits seen, `results/long_series.svg`.

`ratio` is the error that the worst of GRU-D, ODE-RNN, SSM and transformer leaves above the exact forecast's, as a share
of what the best of minimalRNN and history features leaves: below 1 all four are ahead.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from benchmarks.measure import RESULTS
from framework.data.simulate.kalman import forecasts
from framework.data.store import Cohort, open_cohort
from framework.errors import UserError
from framework.evaluate import leaderboard, outcomes
from framework.evaluate.outcomes import Outcomes
from framework.report.drawing import Panel, panel, pens, standalone
from framework.report.horizon import error
from framework.report.spread import means

ORACLE = "exact"
CLAIMED = ("gru_d", "ode_rnn", "ssm", "transformer")
BEATEN = ("minimal_rnn", "ridge", "boosting")
FLOORS = ("last_visit", "mean_pool")
SERIES = ("symptoms", "activity", "marker", "dose")
ENDS = (0, 5, 10, 20, 40, 80, 120, 200)  # visits seen
METRICS = {"MAE": "mae", "pinball": "pinball", "coverage of 90%": "coverage_90"}


def main(run: Path, results: Path = RESULTS) -> dict:
    """Measure a finished run and leave the result and its figure beside this module."""
    manifest = json.loads((run / "manifest.json").read_text())
    if manifest["data"]["name"] != "rhythm":
        raise UserError(f"{run} is a run on {manifest['data']['name']}; only data=rhythm has this exact forecast")
    found = with_exact(outcomes.read(run)[0], open_cohort(manifest["data"]["store"]))
    reference = [name for name in BEATEN if name in found.forecasts]
    cases = scored(found, reference)
    for name, case in sorted(cases.items(), key=lambda item: item[1]["mae"]):
        print(f"{name:12} MAE {case['mae']:.3f} [{case['mae_interval'][0]:.3f}, {case['mae_interval'][1]:.3f}]")
    for name, by_length in lengths(found).items():
        cases[name]["mae_by_visits_seen"] = by_length
    result = {
        "benchmark": "long_series",
        "device": manifest["device"]["kind"],
        "ratio": ratio(cases),
        "cases": cases,
        "forecasts": len(found.truth),
        "subjects": len(found.subjects),
        **{key: manifest.get(key) for key in ("command", "commit")},
        "fingerprint": manifest["data"]["fingerprint"],
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    results.mkdir(exist_ok=True)
    (results / "long_series.json").write_text(json.dumps(result, indent=1) + "\n")
    (results / "long_series.svg").write_text(figure(cases))
    print(json.dumps(result))
    return result


def with_exact(found: Outcomes, cohort: Cohort) -> Outcomes:
    """The run's forecasts of activity, and the exact ones of the same questions."""
    rows = [cohort.subjects.index(subject) for subject in found.subjects]
    columns = [cohort.column(name) for name in SERIES]
    observed = cohort.observed[rows][..., columns]
    values = np.where(observed, cohort.values[rows][..., columns], 0)
    told = forecasts(cohort.times[rows], values, observed, cohort.valid[rows])[found.subject, found.origin + 1]
    repeats = len(found.fold)
    return Outcomes(**{**vars(found), "forecasts": {**found.forecasts, ORACLE: np.tile(told, (repeats, 1, 1))}})


def scored(found: Outcomes, reference: Sequence[str]) -> dict[str, dict]:
    """Of each model the metrics, the interval of its MAE, and the paired differences of that to `reference`."""
    cases: dict[str, dict] = {name: {} for name in found.forecasts}
    for row in leaderboard.leaderboard([found], reference):
        if row.metric not in METRICS or (row.metric == "MAE" and "mae" in cases[row.model]):
            continue  # the second MAE weighs subjects alike
        cases[row.model][METRICS[row.metric]] = round(row.value, 4)
        if row.metric == "MAE":
            cases[row.model]["mae_interval"] = [round(row.low, 4), round(row.high, 4)]
            cases[row.model]["mae_minus"] = {
                name: [round(number, 4) for number in (other.value, other.low, other.high)]
                for name, other in row.differences.items()
            }
    return cases


def lengths(found: Outcomes) -> dict[str, dict[str, list[float]]]:
    """The MAE of each model, with its interval, where so many visits were seen."""
    seen = found.origin + 1
    inside = np.array([(seen > low) & (seen <= high) for low, high in pairwise(ENDS)]).T
    names = [f"{low + 1}-{high}" for low, high in pairwise(ENDS)]

    def binned(model: str) -> Float[np.ndarray, "3 k"]:
        errors = np.repeat(error(found, model).mean(0)[:, None], len(names), axis=1)
        return means(errors, inside.astype(float), found.subject)

    return {model: dict(zip(names, binned(model).T.round(4).tolist(), strict=True)) for model in found.forecasts}


def ratio(cases: Mapping[str, Mapping]) -> float:
    """What the worst of `CLAIMED` leaves over what the best of `BEATEN` does; the exact forecast leaves nothing."""
    left = {name: case["mae"] - cases[ORACLE]["mae"] for name, case in cases.items()}
    worst, best = max(left[name] for name in CLAIMED if name in left), min(left[n] for n in BEATEN if n in left)
    return round(worst / best, 3)


def figure(cases: Mapping[str, Mapping]) -> str:
    """The error of every model by the number of visits seen, as an SVG of its own."""
    drawn = pens(list(cases), [*FLOORS, ORACLE])
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

    says = "Mean absolute error of the next visit's activity by the number of visits seen, with 95% intervals"
    made: Panel = panel("long-series", "Error by visits seen", says, draw, (7.2, 4.2))
    return standalone(made, drawn)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.long_series RUN")
    try:
        main(Path(sys.argv[1]))
    except UserError as problem:
        sys.exit(f"error: {problem}")
