"""How much of what can be known of simulated ventricles a forecaster knows: floor, forecaster, ceiling.

    python -m benchmarks.ceiling runs/forecast/<hash> [runs/forecast/<hash> ...]

Takes finished runs of `experiments.forecast` or `experiments.compare`; several are pooled, such as the folds of one
cohort or cohorts of other seeds, and no subject may be tested in two of them. The forecaster is the last of a run's
models. Where a run repeats its folds, the error of a question is the mean of the repeats' errors (what one fit is to be
expected to miss by, not the error of their mean forecast).

The ceiling is the posterior predictive under the true generator (`framework.data.simulate.oracle`), given what was
measured up to the origin: visit times, ventricular and cortical volumes, cognition, diagnosis, age, sex and head size.
It is asked the very questions the runs were tested by. Volumes are hidden from the forecaster and not from the ceiling,
nor from the floor. Prints a table and one JSON line, and writes `benchmarks/results/ceiling.json`.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from framework.data.cohort.store import Cohort, open_cohort
from framework.data.simulate import oracle
from framework.data.simulate.course import SEXES
from framework.errors import UserError
from framework.evaluate import outcomes
from framework.evaluate.outcomes import Outcomes
from framework.types import LEVELS

FLOORS = ("last_visit", "slope")
MEASURES = ("ventricles", "cognition", "diagnosis", "cortex")
MEDIAN = LEVELS.index(0.5)
RESAMPLES = 2000
RESULTS = Path(__file__).parent / "results" / "ceiling.json"


@dataclass(frozen=True)
class Tested:
    """Absolute errors (mL) of the floors, of the forecaster `model` and of the oracle, question by question."""

    model: str
    subjects: tuple[tuple[str, str], ...]  # (the cohort's fingerprint, id)
    subject: np.ndarray  # (q,), index into subjects
    errors: Mapping[str, np.ndarray]  # name -> (q,)


def main(runs: Sequence[Path], results: Path = RESULTS) -> dict:
    """Measure finished runs and leave the result beside this module."""
    manifests = [finished(run) for run in runs]
    tested = pooled([read(run, manifest) for run, manifest in zip(runs, manifests, strict=True)])
    value, low, high = closed(tested)
    for name, error in tested.errors.items():
        print(f"{name:12} MAE {error.mean():.3f} mL")
    print(f"{tested.model} closes {value:.0%} [{low:.0%}, {high:.0%}] of the gap between slope and oracle")
    result = {
        "benchmark": "ceiling",
        "device": shared(manifest["device"]["kind"] for manifest in manifests),
        "ratio": round(value, 3),
        "interval": [round(low, 3), round(high, 3)],
        "cases": {name: round(float(error.mean()), 4) for name, error in tested.errors.items()},
        "forecasts": len(tested.subject),
        "subjects": len(tested.subjects),
        "command": shared(manifest["command"] for manifest in manifests),
        "commit": shared(manifest["commit"] for manifest in manifests),
        "fingerprint": shared(manifest["data"]["fingerprint"] for manifest in manifests),
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))
    return result


def read(run: Path, manifest: Mapping) -> Tested:
    """A run's errors, and the oracle's on the same questions."""
    if manifest["data"]["name"] != "atrophy":
        raise UserError(f"{run} is a run on {manifest['data']['name']}; only data=atrophy has a generator to ask")
    found = next((one for one in outcomes.read(run) if one.target.name == "ventricles"), None)
    model = next((name for name in reversed(manifest["models"]) if name not in FLOORS), None)
    if found is None or model is None:
        raise UserError(f"{run} forecasts no ventricles by a model beside the floors; name a run that does")
    medians = {name: found.forecasts[name][:, :, MEDIAN] for name in (*FLOORS, model)}
    medians["oracle"] = ceiling(open_cohort(manifest["data"]["store"]), found)[None]
    errors = {name: np.abs(median - found.truth).mean(0) for name, median in medians.items()}
    fingerprint = manifest["data"]["fingerprint"]
    return Tested(model, tuple((fingerprint, subject) for subject in found.subjects), found.subject, errors)


def pooled(tested: Sequence[Tested]) -> Tested:
    """All questions together. Raises UserError where models differ or a subject was tested twice."""
    models = sorted({one.model for one in tested})
    if len(models) > 1:
        raise UserError(f"these runs are of different models ({', '.join(models)}); pool the runs of one")
    subjects = tuple(subject for one in tested for subject in one.subjects)
    twice = [subject for (_, subject), count in Counter(subjects).items() if count > 1]
    if twice:
        raise UserError(
            f"tested in two of these runs: {len(twice)} subjects, such as {twice[0]}; name runs of different folds"
        )
    first = np.cumsum([0, *(len(one.subjects) for one in tested[:-1])])
    subject = np.concatenate([one.subject + start for one, start in zip(tested, first, strict=True)])
    errors = {name: np.concatenate([one.errors[name] for one in tested]) for name in tested[0].errors}
    return Tested(models[0], subjects, subject, errors)


def ceiling(cohort: Cohort, found: Outcomes) -> np.ndarray:
    """The oracle's median for each question of the run, in mL."""
    told = np.empty(len(found.truth))
    for place, subject in enumerate(found.subjects):
        mine = np.flatnonzero(found.subject == place)
        row = cohort.subjects.index(subject)
        for origin, belief in enumerate(beliefs(cohort, row)):
            asks = mine[found.origin[mine] == origin]
            if len(asks):
                told[asks] = belief.forecast(found.time[asks]).quantiles[:, MEDIAN]
    return told


def beliefs(cohort: Cohort, row: int) -> Iterator[oracle.Belief]:
    """What can be known of a subject after each visit, in turn."""
    static = dict(zip((variable.name for variable in cohort.schema.static), cohort.static[row], strict=True))
    belief = oracle.prior(static["age_baseline"], SEXES[int(static["sex"])], static["icv"])
    for visit in range(int(cohort.valid[row].sum())):
        seen = {
            name: float(cohort.values[row, visit, cohort.column(name)])
            for name in MEASURES
            if cohort.observed[row, visit, cohort.column(name)]
        }
        belief = belief.seen(cohort.times[row, visit], **seen)
        yield belief


def closed(tested: Tested) -> tuple[float, float, float]:
    """The share of the gap that the model closes, with a 95% interval over resampled subjects."""
    rng = np.random.default_rng(0)
    count = len(tested.subjects)
    weights = np.concatenate([np.ones((1, count)), rng.multinomial(count, np.ones(count) / count, RESAMPLES)])
    mean = {name: weights[:, tested.subject] @ error for name, error in tested.errors.items()}
    share = (mean["slope"] - mean[tested.model]) / (mean["slope"] - mean["oracle"])
    low, high = np.quantile(share[1:], [0.025, 0.975])
    return float(share[0]), float(low), float(high)


def finished(run: Path) -> dict:
    """The manifest of a finished run. Raises UserError for any other."""
    file = run / "manifest.json"
    manifest = json.loads(file.read_text()) if file.exists() else {}
    if not manifest.get("finished"):
        raise UserError(f"{run} is no finished run; name folders that experiments.forecast or .compare printed")
    return manifest


def shared(values: Iterable[str | None]) -> str | None:
    """What all runs share, or all that there are; None where nothing is known."""
    return "; ".join(dict.fromkeys(value for value in values if value)) or None


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m benchmarks.ceiling RUN [RUN ...]")
    try:
        main([Path(run) for run in sys.argv[1:]])
    except UserError as error:
        sys.exit(f"error: {error}")
