"""How much of what can be known of simulated ventricles a run knows: floor, forecaster, ceiling.

    python -m benchmarks.ceiling runs/forecast/<hash>

The ceiling is the posterior predictive under the true generator (`framework.data.simulate.oracle`), given what was
measured up to the origin: visit times, ventricular and cortical volumes, cognition, diagnosis, age, sex and head size.
It is asked the very questions the run was tested by. Volumes are hidden from the forecaster and not from the ceiling,
nor from the floor. Prints a table and one JSON line, and writes `benchmarks/results/ceiling.json`.
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from framework.data.simulate import oracle
from framework.data.store import Cohort, open_cohort
from framework.evaluate import outcomes
from framework.evaluate.outcomes import Outcomes

MEASURES = ("ventricles", "cognition", "diagnosis", "cortex")
RESAMPLES = 2000
RESULTS = Path(__file__).parent / "results" / "ceiling.json"


def main(run: Path) -> None:
    """Measure one finished run and leave the result beside this module."""
    manifest = json.loads((run / "manifest.json").read_text())
    cohort = open_cohort(manifest["data"]["store"])
    found = next(one for one in outcomes.read(run) if one.target.name == "ventricles")
    forecasts = {name: numbers[0][:, 2] for name, numbers in found.forecasts.items()}
    forecasts["oracle"] = ceiling(cohort, found)
    errors = {name: np.abs(median - found.truth) for name, median in forecasts.items()}
    model = next(name for name in reversed(manifest["models"]) if name not in ("last_visit", "slope"))
    value, low, high = closed(errors, model, found)
    for name, error in errors.items():
        print(f"{name:12} MAE {error.mean():.3f} mL")
    print(f"{model} closes {value:.0%} [{low:.0%}, {high:.0%}] of the gap between slope and oracle")
    result = {
        "benchmark": "ceiling",
        "device": manifest["device"]["kind"],
        "ratio": round(float(value), 3),
        "interval": [round(float(low), 3), round(float(high), 3)],
        "cases": {name: round(float(error.mean()), 4) for name, error in errors.items()},
        "forecasts": len(found.truth),
        "subjects": len(found.subjects),
        "command": manifest["command"],
        "commit": manifest["commit"],
        "fingerprint": manifest["data"]["fingerprint"],
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def ceiling(cohort: Cohort, found: Outcomes) -> np.ndarray:
    """The oracle's median for each question of the run, in mL."""
    told = np.empty(len(found.truth))
    for place, subject in enumerate(found.subjects):
        mine = np.flatnonzero(found.subject == place)
        row = cohort.subjects.index(subject)
        for origin, belief in enumerate(beliefs(cohort, row)):
            asks = mine[found.origin[mine] == origin]
            if len(asks):
                told[asks] = belief.forecast(found.time[asks]).quantiles[:, 2]
    return told


def beliefs(cohort: Cohort, row: int):
    """What can be known of a subject after each visit, in turn."""
    levels = {variable.name: variable.levels for variable in cohort.schema.static}
    known = {
        variable.name: cohort.static[row, i] if cohort.static_observed[row, i] else None
        for i, variable in enumerate(cohort.schema.static)
    }
    belief = oracle.prior(known["age_baseline"], sex=levels["sex"][int(known["sex"])], icv=known["icv"])
    for visit in range(int(cohort.valid[row].sum())):
        seen = {
            name: float(cohort.values[row, visit, cohort.column(name)])
            for name in MEASURES
            if cohort.observed[row, visit, cohort.column(name)]
        }
        belief = belief.seen(cohort.times[row, visit], **seen)
        yield belief


def closed(errors: dict[str, np.ndarray], model: str, found: Outcomes) -> tuple[float, float, float]:
    """The share of the gap that the model closes, with a 95% interval over resampled subjects."""
    rng = np.random.default_rng(0)
    count = len(found.subjects)
    weights = np.concatenate([np.ones((1, count)), rng.multinomial(count, np.ones(count) / count, RESAMPLES)])
    mean = {name: weights[:, found.subject] @ error for name, error in errors.items()}
    share = (mean["slope"] - mean[model]) / (mean["slope"] - mean["oracle"])
    low, high = np.quantile(share[1:], [0.025, 0.975])
    return float(share[0]), float(low), float(high)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
