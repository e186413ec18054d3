"""Peak memory of a forecaster on a large cohort, from its table to the held-out forecasts.

    python -m benchmarks.memory [models=ridge,forest,boosting,gru] [command=ridge] [subjects=20000] [folder=runs/memory]

A table of simulated subjects (five visits of thirty numbers each, two of them targets; a tenth of the numbers is
missing) is ingested once. Then each model of conf/model is fitted to the training subjects of the first of ten folds,
with calibrated intervals as by default, and forecasts the held-out ones, in a process of its own. The model `command`
is also run by `experiments.forecast`, from the table to the report. Recorded are the peak resident size of each process
(VmHWM) and the seconds. `ratio` is 3 GB over the largest peak: above 1 passes. Cases measured before on a table of the
same size stay in the record until they are measured again; each names its commit.

Long fits are shortened by the settings in REDUCED: fewer candidates and folds, which run in sequence, so that the peak
is unchanged. The record names them.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import measure

MODELS = ("ridge", "forest", "boosting", "gru")
VISITS, VARIABLES, TARGETS = 5, 30, ("v00", "v01")
BOUND = 3e9  # bytes
REDUCED: dict[str, Sequence[str]] = {  # candidates and folds run in sequence: fewer take as much memory
    "forest": (
        "model.folds=2",
        "model.regressor.grid.min_samples_leaf=[2]",
        "model.regressor.grid.max_features=[0.15]",
    ),
    "boosting": (
        "model.folds=2",
        "model.regressor.grid.max_leaves=[4]",
        "model.regressor.grid.learning_rate=[0.1]",
    ),
}


def table(path: Path, subjects: int, seed: int = 0) -> None:
    """Write a table of subjects, each with a rate of decline that its variables follow with noise."""
    rng = np.random.default_rng(seed)
    loads = rng.normal(size=(3, VARIABLES))
    names = [f"v{i:02}" for i in range(VARIABLES)]
    with path.open("w") as file:
        file.write(",".join(["subject", "time", *names]) + "\n")
        for i in range(subjects):
            times = np.cumsum(np.r_[0, rng.uniform(0.7, 1.3, VISITS - 1)])
            state = rng.normal(size=3) + times[:, None] * np.abs(rng.normal(0.3, 0.2, 3))
            values = state @ loads + rng.normal(0, 0.5, (VISITS, VARIABLES))
            gone = rng.random(values.shape) < 0.1
            for at, row, lacks in zip(times, values, gone, strict=True):
                cells = ["" if lack else f"{value:.5g}" for value, lack in zip(row, lacks, strict=True)]
                file.write(",".join([f"s{i:06}", f"{at:.4f}", *cells]) + "\n")


def settings(folder: Path, name: str) -> list[str]:
    """Return the overrides of `experiments.forecast` for a model on the table of a folder."""
    names = [f"v{i:02}" for i in range(VARIABLES)]
    roles = {name: "[input,target]" if name in TARGETS else "[input]" for name in names}
    return [
        "data=table",
        f"data.path={folder}/visits.csv",
        f"data.store={folder}/cohort",
        *(f"+data.reader.variables.{name}={{roles:{role}}}" for name, role in roles.items()),
        f"data.targets=[{','.join(TARGETS)}]",
        f"model={name}",
        f"runs={folder}/runs",
        *REDUCED.get(name, ()),
    ]


def fit(folder: Path, name: str) -> dict:
    """Fit a model and forecast the held-out subjects; return the seconds of both and the peak size of this process."""
    import jax  # only the child process needs it
    from hydra import compose, initialize_config_module
    from hydra.utils import instantiate

    from framework.forecast.predict import answers
    from framework.runs.data_loading import load_examples
    from framework.runs.job import build_forecaster

    with initialize_config_module("conf", version_base="1.3"):
        config = compose("forecast", settings(folder, name))
    start = time.monotonic()
    examples = load_examples(config)
    split = instantiate(config.split, _convert_="all").one(examples.cohort)
    before, opened = peak(), time.monotonic()
    fitted = build_forecaster(config, config.model).fit(examples, split, jax.random.key(0))
    after, fitted_at = peak(), time.monotonic()
    rows = np.flatnonzero(split.test)
    found = answers(fitted, examples, rows, examples.eval_queries)
    if not all(np.isfinite(numbers).all() for numbers in found.values()):
        raise RuntimeError(f"a forecast of {name} is not finite")
    return {
        "open_s": round(opened - start, 1),
        "fit_s": round(fitted_at - opened, 1),
        "forecast_s": round(time.monotonic() - fitted_at, 1),
        "open_peak_bytes": before,
        "fit_peak_bytes": after,
        "peak_bytes": peak(),
        "forecast_subjects": len(rows),
    }


def peak() -> int:
    """Return the peak resident size of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM; this benchmark needs Linux")


def run_process(command: Sequence[str]) -> dict:
    """Run a process to its end; return its peak resident size, its seconds and its last line."""
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = process.stdout.read().splitlines()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    took = {"peak_bytes": used.ru_maxrss * 1024, "seconds": round(time.monotonic() - start, 1)}
    return took | {"last": lines[-1] if lines else ""}


def main(arguments: Sequence[str]) -> None:
    """Measure each model, print a table and one JSON line, and write the record."""
    options = dict(one.split("=", 1) for one in arguments)
    if "one" in options:
        return print(json.dumps(fit(Path(options["folder"]), options["one"])))
    names = [name for name in options.get("models", ",".join(MODELS)).split(",") if name]
    subjects = int(options.get("subjects", 20_000))
    folder = Path(options.get("folder", "runs/memory")) / str(subjects)
    folder.mkdir(parents=True, exist_ok=True)
    shape = {"subjects": subjects, "visits": VISITS, "variables": VARIABLES, "targets": len(TARGETS)}
    table(folder / "visits.csv", subjects)
    if not (folder / "cohort").exists():
        data = [setting for setting in settings(folder, names[0]) if setting.lstrip("+").startswith("data")]
        record("ingest", run_process(["-m", "experiments.ingest", *data]), shape)
    for name in names:
        found = run_process(["-m", "benchmarks.memory", f"one={name}", f"folder={folder}"])
        inside = json.loads(found["last"])
        record(name, found | inside | {"peak_bytes": max(found["peak_bytes"], inside["peak_bytes"])}, shape, name)
    if name := options.get("command"):
        overrides = [*settings(folder, name), f"data.store={folder}/again", f"runs={folder}/again-runs"]
        record(f"command, {name}", run_process(["-m", "experiments.forecast", *overrides]), shape, name)


def record(case: str, found: dict, shape: dict, model: str = "") -> None:
    """Add a case to the record, and print it as one JSON line."""
    path = measure.RESULTS / "memory-cpu.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    cases = before["cases"] if before.items() >= shape.items() else {}
    found = {key: value for key, value in found.items() if key != "last"} | {"commit": measure.commit()}
    found["ratio"] = round(BOUND / found["peak_bytes"], 3)
    if model in REDUCED:
        found["reduced"] = list(REDUCED[model])
    print(f"{case:20} {found['peak_bytes'] / 1e9:.2f} GB, {found['seconds']} s", flush=True)
    cases = cases | {case: found}
    result = measure.record("memory", {"device": "cpu", "versions": {"numpy": np.__version__}}, cases, **shape)
    measure.write(result | {"ratio": min(one["ratio"] for one in cases.values())})


if __name__ == "__main__":
    main(sys.argv[1:])
