"""Share of the achievable improvement on simulated ventricles: reference forecasts, forecaster, oracle.

    python -m benchmarks.ceiling runs/forecast/<hash> [runs/forecast/<hash> ...]

Reads finished runs of `experiments.forecast` or `experiments.compare`; several are pooled, such as the folds of one
cohort or cohorts of other seeds, and no subject may be tested in two of them. The forecaster is the last of a run's
models. Where a run repeats its folds, the error of a query is the mean of the repeats' errors (the expected error of
one fit, not the error of their mean forecast).

The oracle is the posterior predictive under the true generator (`framework.data.simulate.oracle`), given the
measurements up to the origin: visit times, ventricular and cortical volumes, cognition, diagnosis, age, sex and head
size. It answers the test queries of the runs. Volumes are hidden from the forecaster, but not from the oracle or the
reference forecasts. Prints a table and one JSON line, and writes `benchmarks/results/ceiling.json`.
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

REFERENCES = ("last_visit", "slope")
MEASURES = ("ventricles", "cognition", "diagnosis", "cortex")
MEDIAN = LEVELS.index(0.5)
RESAMPLES = 2000
RESULTS = Path(__file__).parent / "results" / "ceiling.json"


@dataclass(frozen=True)
class Tested:
    """Absolute errors (mL) of the reference forecasts, of the forecaster `model` and of the oracle, by query."""

    model: str
    subjects: tuple[tuple[str, str], ...]  # (the cohort's fingerprint, id)
    subject: np.ndarray  # (q,), index into subjects
    errors: Mapping[str, np.ndarray]  # name -> (q,)


def main(runs: Sequence[Path], results: Path = RESULTS) -> dict:
    """Evaluate finished runs and write the record."""
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
    """Read a run's errors, and compute the oracle's on the same queries."""
    if manifest["data"]["name"] != "atrophy":
        raise UserError(f"{run} is a run on {manifest['data']['name']}; only data=atrophy has an oracle")
    found = next((one for one in outcomes.read(run) if one.target.name == "ventricles"), None)
    model = next((name for name in reversed(manifest["models"]) if name not in REFERENCES), None)
    if found is None or model is None:
        raise UserError(
            f"{run} forecasts no ventricles by a model beside the reference forecasts; name a run that does"
        )
    points = {name: found.points(name) for name in (*REFERENCES, model)}
    points["oracle"] = ceiling(open_cohort(manifest["data"]["store"]), found)[None]
    errors = {name: np.abs(point - found.truth).mean(0) for name, point in points.items()}
    fingerprint = manifest["data"]["fingerprint"]
    return Tested(model, tuple((fingerprint, subject) for subject in found.subjects), found.subject, errors)


def pooled(tested: Sequence[Tested]) -> Tested:
    """Pool the queries. Raises UserError where models differ or a subject was tested twice."""
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
    """Return the oracle's median for each query of the run, in mL."""
    medians = np.empty(len(found.truth))
    for place, subject in enumerate(found.subjects):
        of_subject = np.flatnonzero(found.subject == place)
        row = cohort.subjects.index(subject)
        for origin, belief in enumerate(beliefs(cohort, row)):
            queries = of_subject[found.origin[of_subject] == origin]
            if len(queries):
                medians[queries] = belief.forecast(found.time[queries]).quantiles[:, MEDIAN]
    return medians


def beliefs(cohort: Cohort, row: int) -> Iterator[oracle.Belief]:
    """Yield the oracle's belief about a subject after each visit."""
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
    """Return the share of the gap that the model closes, with a 95% interval over resampled subjects."""
    rng = np.random.default_rng(0)
    count = len(tested.subjects)
    weights = np.concatenate([np.ones((1, count)), rng.multinomial(count, np.ones(count) / count, RESAMPLES)])
    mean = {name: weights[:, tested.subject] @ error for name, error in tested.errors.items()}
    share = (mean["slope"] - mean[tested.model]) / (mean["slope"] - mean["oracle"])
    low, high = np.quantile(share[1:], [0.025, 0.975])
    return float(share[0]), float(low), float(high)


def finished(run: Path) -> dict:
    """Return the manifest of a finished run. Raises UserError for any other."""
    file = run / "manifest.json"
    manifest = json.loads(file.read_text()) if file.exists() else {}
    if not manifest.get("finished"):
        raise UserError(f"{run} is no finished run; name folders that experiments.forecast or .compare printed")
    return manifest


def shared(values: Iterable[str | None]) -> str | None:
    """Join the distinct values of all runs; None where there is none."""
    return "; ".join(dict.fromkeys(value for value in values if value)) or None


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m benchmarks.ceiling RUN [RUN ...]")
    try:
        main([Path(run) for run in sys.argv[1:]])
    except UserError as error:
        sys.exit(f"error: {error}")
