"""Coverage of 90% predictive intervals, for every forecaster of a number, before and after calibration.

    python -m benchmarks.interval_coverage [models=ridge,gru] [cohorts=10] [folder=runs/interval_coverage]
    python -m benchmarks.interval_coverage runs/compare/<hash> [runs/compare/<hash> ...]

Without runs: `cohorts` training cohorts of 150 simulated subjects (the course of `framework.data.simulate.course`, six
visits, tables alone), each with 200 new subjects, for every forecaster of conf/model; results are kept in `folder`, so
that the same command continues after a stop. `models=cnn_gru` reads scans and no volumes: three training cohorts of 150
subjects of `data=atrophy`, each with 120 new ones. With runs: the coverage in these finished runs, with its 95%
interval over subjects, Bonferroni-adjusted for the number of forecasters.

`ratio` is the worst forecaster's distance from 90% over the tolerance (two points, four by horizon, four on scans);
with runs, over the half-width of the interval. At most 1 passes.
"""

import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import jax
import numpy as np
from hydra import compose, initialize_config_module
from jaxtyping import Bool, Float

from benchmarks.measure import RESULTS
from framework.data.cohort.schema import Schema, Subject, Variable, Visit
from framework.data.cohort.store import Cohort
from framework.data.cohort.store.writing import write
from framework.data.queries.examples import Examples
from framework.data.queries.layout import layout
from framework.data.simulate.course import DIAGNOSES, SEXES, Parameters, draw_person, follow, streams
from framework.data.splits.split import Split
from framework.evaluate import outcomes
from framework.forecast.base import Fitted, Forecaster
from framework.forecast.predict import answers
from framework.runs.data_loading import load_examples
from framework.runs.job import build_forecaster
from framework.types import LEVELS, Number, Truth

TRAIN, NEW = 150, 200
SCANNED = 120  # new subjects of a cohort with scans
MODELS = (
    "last_visit",
    "slope",
    "ridge",
    "quantile",
    "svm",
    "forest",
    "extra_trees",
    "boosting",
    "mixed_effects",
    "progression",
    "gru",
    "crossfit",
    "bagging",
    "voting",
    "stacking",
)
SCANS = ("cnn_gru",)
SMALLER = {
    "cnn_gru": ["training=scans"],
    "bagging": ["model.num_members=5"],
    "crossfit": ["model.grid={learning_rate: [0.003]}"],
    "quantile": ["model.regressor.grid={penalty: [1.0, 30.0]}"],
    "stacking": [
        "model.folds=3",
        "model.members.forest.regressor.grid={min_samples_leaf: [4], max_features: [0.3]}",
    ],
}
TARGETS = ("cognition", "ventricles")
HORIZONS = (0.0, 1.5, 2.5, 3.5, 6.0)  # years
COMPLETE = Parameters(
    months=(0, 12, 24, 36, 48, 60),
    planned=(6, 6),
    attends=1.0,
    leaves=(0.0, 0.0, 0.0),
    no_cognition=0,
    no_t1=0,
    unsegmented=0,
)
REPLICATES = 4000  # of the bootstrap over subjects


@cache
def simulated(seed: int, subjects: int) -> Cohort:
    """Simulate a cohort of tables with six visits per subject."""
    schema = Schema(
        (
            Variable("age", ("input", "future"), "years", per_year=1.0),
            Variable("cognition", ("input", "target"), "points", bounds=(0.0, 30.0)),
            Variable("ventricles", ("input", "target"), "mL", bounds=(0.0, None)),
            Variable("diagnosis", ("input",), levels=DIAGNOSES, ordered=True),
        ),
        (Variable("sex", levels=SEXES), Variable("icv", units="mL")),
    )
    return write(f"memory://interval_coverage/{seed}", schema, _subjects(seed, subjects))


def _subjects(seed: int, count: int) -> Iterator[Subject]:
    for i in range(count):
        rng = streams(seed, i)[0]
        person = draw_person(rng, COMPLETE)
        visits = []
        for plan in follow(person, rng, COMPLETE):
            volume = float(np.exp(person.log_ventricles(plan.time))) * plan.ventricles_error
            values = {"cognition": float(plan.cognition), "ventricles": volume, "diagnosis": plan.diagnosis}
            visits.append(Visit(plan.id, plan.time, {"age": person.age + plan.time, **values}))
        yield Subject(f"s{i:04d}", tuple(visits), {"sex": person.sex, "icv": person.icv})


def tables(seed: int) -> Examples:
    """Return the examples of a simulated cohort of tables."""
    cohort = simulated(seed, TRAIN + NEW)
    return Examples(cohort, layout(cohort.schema, TARGETS))


def measured(recipe: Forecaster, examples: Examples, seed: int) -> dict:
    """Coverage and width of the intervals of each target, before and after calibration."""
    place = np.arange(len(examples.cohort.subjects))
    split = Split(place < TRAIN * 0.85, (place >= TRAIN * 0.85) & (place < TRAIN), place >= TRAIN)
    fitted = recipe.fit(examples, split, jax.random.key(seed))
    member = getattr(fitted, "member", fitted)
    found = {}
    for when, model in (("before", member), ("after", fitted)):
        for target, case in _coverage(model, examples, np.flatnonzero(split.test)).items():
            found.setdefault(target, {})[when] = case
    return found


def _coverage(fitted: Fitted, examples: Examples, rows: np.ndarray) -> dict:
    forecasts = answers(fitted, examples, rows, examples.eval_queries)
    query = examples.eval_queries.query
    ahead = (query.time - np.take_along_axis(examples.cohort.times, np.asarray(query.origin), 1))[rows]
    cases = {}
    for name in forecasts:
        truth = examples.eval_queries.truth[name]
        assert isinstance(truth, Truth)
        seen = np.asarray(truth.observed)[rows]
        inside, width = inside_of(forecasts[name][seen], np.asarray(truth.value)[rows][seen])
        bins = np.digitize(ahead[seen], HORIZONS) - 1
        cases[name] = {
            "held": int(inside.sum()),
            "count": len(inside),
            "width": float(width.mean()),
            "held_by_horizon": np.bincount(bins, inside, len(HORIZONS) - 1).astype(int).tolist(),
            "count_by_horizon": np.bincount(bins, minlength=len(HORIZONS) - 1).tolist(),
        }
    return cases


def inside_of(
    quantiles: Float[np.ndarray, "n p"], truth: Float[np.ndarray, " n"]
) -> tuple[Bool[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Whether 90% intervals contain the truths, ends included, and their widths."""
    low, high = quantiles[:, 0], quantiles[:, len(LEVELS) - 1]
    return (low <= truth) & (truth <= high), high - low


def pooled(parts: Sequence[dict]) -> dict:
    """Pool the coverage of all training cohorts."""
    cases = {}
    for target in parts[0]:
        for when in ("before", "after"):
            each = [part[target][when] for part in parts]
            held, count = (np.sum([part[f"{key}_by_horizon"] for part in each], axis=0) for key in ("held", "count"))
            cases[f"{target} {when}"] = {
                "coverage": float(held.sum() / count.sum()),
                "by_horizon": (held / np.maximum(count, 1)).tolist(),
                "by_cohort": [part["held"] / part["count"] for part in each],
                "width": float(np.mean([part["width"] for part in each])),
            }
    return cases


def in_runs(runs: Sequence[Path], seed: int = 0) -> dict:
    """Coverage in finished runs with its interval over subjects, adjusted for the number of forecasters."""
    found = {}
    for run in runs:
        for one in outcomes.read(run):
            if not isinstance(one.target, Number):
                continue
            for model in one.forecasts:
                quantiles = one.quantiles(model)
                inside = ((quantiles[..., 0] <= one.truth) & (one.truth <= quantiles[..., -1])).mean(0)
                width = (quantiles[..., -1] - quantiles[..., 0]).mean()
                found[f"{run.name} {one.target.name} {model}"] = inside, one.subject, float(width)
    names = {name.split()[-1] for name in found}
    share = 0.05 / len(names)
    rng, cases = np.random.default_rng(seed), {}
    for name, (inside, subject, width) in found.items():
        hits, count = np.bincount(subject, inside), np.bincount(subject)
        drawn = rng.multinomial(len(count), np.full(len(count), 1 / len(count)), REPLICATES)
        draws = (drawn @ hits) / np.maximum(drawn @ count, 1)
        low, high = np.quantile(draws, [share / 2, 1 - share / 2])
        cases[name] = {"coverage": float(inside.mean()), "low": float(low), "high": float(high), "width": width}
    return cases


def main(arguments: Sequence[str]) -> dict:
    """Measure, print a table and one JSON line, and write the record."""
    options = dict(one.split("=", 1) for one in arguments if "=" in one)
    runs = [Path(one) for one in arguments if "=" not in one]
    if runs:
        cases = in_runs(runs)
        for name, one in cases.items():
            print(f"{name:50} {one['coverage']:.3f} [{one['low']:.3f}, {one['high']:.3f}] width {one['width']:.4g}")
        distances = [
            abs(one["coverage"] - 0.9) / max(one["coverage"] - one["low"], one["high"] - one["coverage"], 1e-9)
            for one in cases.values()
        ]
        return _written(cases, max(distances), "interval_coverage_runs", {"runs": [run.name for run in runs]})
    names = options.get("models", ",".join(MODELS)).split(",")
    scans = set(names) == set(SCANS)
    cohorts = int(options.get("cohorts", 3 if scans else 10))
    folder = Path(options.get("folder", "runs/interval_coverage"))
    folder.mkdir(parents=True, exist_ok=True)
    cases = {name: pooled([_once(name, seed, folder) for seed in range(cohorts)]) for name in names}
    worst = 0.0
    for name, case in cases.items():
        for what, one in case.items():
            horizons = " ".join(f"{share:.3f}" for share in one["by_horizon"])
            print(f"{name:14} {what:18} {one['coverage']:.3f} by horizon {horizons} width {one['width']:.3g}")
            if what.endswith("after"):
                by_horizon = [] if scans else one["by_horizon"]
                allowed = 0.04 if scans else 0.02
                worst = max([worst, abs(one["coverage"] - 0.9) / allowed, *(abs(h - 0.9) / 0.04 for h in by_horizon)])
    new = cohorts * (SCANNED if scans else NEW)
    more = {"cohorts": cohorts, "new_subjects": new, "training_subjects": TRAIN, "horizons": HORIZONS}
    return _written(cases, worst, "interval_coverage_scans" if scans else "interval_coverage", more)


def _once(name: str, seed: int, folder: Path) -> dict:
    file = folder / f"{name}-{seed}.json"
    if not file.exists():
        data = ["data.store=none"]
        if name in SCANS:
            store = f"data.store={folder}/cohorts/{seed}"
            data = ["data=atrophy", f"data.subjects={TRAIN + SCANNED}", f"data.seed={seed}", store]
        with initialize_config_module("conf", version_base="1.3"):
            config = compose("forecast", [*data, f"model={name}", *SMALLER.get(name, ())])
        examples = load_examples(config) if name in SCANS else tables(seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*converge.*")
            found = measured(build_forecaster(config, config.model), examples, seed)
        file.with_suffix(".new").write_text(json.dumps(found))
        replaced = file.with_suffix(".new").rename(file)
        after = found["ventricles"]["after"]
        print(f"{replaced.stem}: {after['held'] / after['count']:.3f}", flush=True)
    return json.loads(file.read_text())


def _written(cases: dict, ratio: float, name: str, more: dict) -> dict:
    result = {
        "benchmark": name,
        "device": jax.devices()[0].device_kind,
        "ratio": ratio,
        "cases": cases,
        **more,
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main(sys.argv[1:])
