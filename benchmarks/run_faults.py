"""Faults in a run's folder that `predict` or `report` reads, in a finished prediction, in pretrained encoders, and in
the states from which an interrupted run resumes.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from benchmarks import damage
from framework.cli.report import report
from framework.digests import FILE, seal
from framework.forecast.deep.pretrained import SEEN, Pretrained
from framework.report.finished_run import READ
from framework.runs.model_results import ModelResults
from framework.runs.predict import predict
from framework.train.array_io import save_arrays
from framework.train.checkpoint import Checkpoints

COUNTS = {"forecast or report": 500, "shown again": 120, "encoders": 120, "checkpoints": 200}
SMALL = (
    *("training.steps=4", "training.eval_every=2", "training.batch=8", "model.head.cell.features=4", "model.width=4"),
    *("resamples=100", "seed=1"),
)
VARIABLES = {
    "score": "{roles: [input, target], units: points}",
    "age": "{roles: [input, future], units: years, per_year: 1}",
}
OUT = ("report.html", "tables", "methods.md", "methods.tex", "references.bib")  # what a report writes
MODELS = ("config.yaml", "manifest.json", "models")  # what a prediction reads


def table_overrides(folder: Path) -> list[str]:
    """Write a table of a few patients; return the overrides that describe it and its paths."""
    file = folder / "visits.csv"
    if not file.exists():
        rng, lines = np.random.default_rng(0), ["id,time,score,age"]
        for i in range(12):
            start = rng.normal(25, 3)
            lines += [
                f"s{i:02},{t:.2f},{start - 2 * t + rng.normal(0, 0.3):.2f},{70 + i + t:.2f}" for t in (0, 1.1, 2.3)
            ]
        file.write_text("\n".join(lines) + "\n")
    return ["data=table", f"data.path={file}", f"data.store={folder}/store", "data.reader.subject=id"] + [
        f"+data.reader.variables.{name}={variable}" for name, variable in VARIABLES.items()
    ]


def make(folder: Path) -> Path:
    """Make a finished run of a small network by the command."""
    command = [
        sys.executable,
        "-m",
        "experiments.forecast",
        *table_overrides(folder),
        "data.targets=[score]",
        "split.folds=3",
    ]
    if not list((folder / "made").glob("forecast/*/report.html")):
        made = subprocess.run([*command, "model=gru", *SMALL, f"runs={folder}/made"], capture_output=True, text=True)
        if made.returncode:
            raise RuntimeError(made.stderr[-2000:])
    return next((folder / "made" / "forecast").iterdir())


@cache
def config(name: str, *overrides: str) -> DictConfig:
    """Compose the configuration of a command."""
    with initialize_config_module("conf", version_base="1.3"):
        made = compose(name, list(overrides))
    OmegaConf.resolve(made)
    return made


def forecast(run: Path, source: Path, runs: Path) -> bytes:
    """Predict again; return the table of forecasts."""
    composed = config("predict", f"run={run}", f"data.path={source}/visits.csv", f"runs={runs}", "ahead=[1]")
    composed = composed.copy()
    composed.data.store = f"{source}/new"
    predict(composed)
    return next(runs.glob("predict/*/forecasts.csv")).read_bytes()


def write_report(run: Path) -> list[bytes]:
    """Write the report of a run; return the page and the files beside it."""
    report(config("report", f"run={run}"))
    beside = sorted([*run.glob("tables/*"), run / "methods.md", run / "references.bib"])
    return [(run / "report.html").read_bytes(), *(file.read_bytes() for file in beside)]


def measure(folder: Path, counts: dict[str, int] = COUNTS) -> dict[str, dict]:
    """Measure the cases by the data that are used."""
    folder = folder.absolute()
    use = {
        "forecast or report": run_folder,
        "shown again": prediction,
        "encoders": encoders,
        "checkpoints": checkpoints,
    }
    return {f"run, {name}": use[name](folder, count) for name, count in counts.items()}


def run_folder(folder: Path, count: int) -> dict:
    """Faults in a run's folder, used by a command that reads the file; in turn, where both or none read it."""
    run, runs = make(folder), folder / "predictions"

    def use(place: Path, name: str, number: int) -> tuple[str, object]:
        part = name.split("/")[0]
        readers = [how for how, files in (("forecast", MODELS), ("report", (*READ, *OUT))) if part in files]
        how = readers[0] if len(readers) == 1 else ("forecast", "report")[number % 2]
        if how == "report":
            return how, write_report(place)
        shutil.rmtree(runs, ignore_errors=True)
        return how, forecast(place, folder, runs)

    return damage.trials(run, count, use, folder / "faults-run", pick)


def pick(files: Sequence[Path], rng: np.random.Generator) -> Path:
    """Draw the configuration, manifests or weights half of the time, else mostly files that a command reads."""
    run = files[0].parent
    parts = {file: file.relative_to(run).parts[0] for file in files}
    groups = {
        "central": [file for file, part in parts.items() if part in (*MODELS, FILE)],
        "read": [file for file, part in parts.items() if part in READ],
        "any": list(files),
    }
    return damage.any_file(groups[str(rng.choice(list(groups), p=[0.5, 0.44, 0.06]))], rng)


def prediction(folder: Path, count: int) -> dict:
    """Faults in a finished prediction, which the same command shows."""
    run, shown = make(folder), folder / "shown"
    if not shown.exists():
        forecast(run, folder, shown)

    def use(place: Path, name: str, number: int) -> tuple[str, object]:
        return "shown", forecast(run, folder, place)

    return damage.trials(shown, count, use, folder / "faults-shown")


def encoders(folder: Path, count: int) -> dict:
    """Faults in encoders from which a forecaster starts."""
    whole, like = folder / "encoders", {"w": jnp.ones((3, 4)), "b": jnp.zeros(4)}
    grids = {"t1": (8, 8), "flair": (9, 9)}
    if not whole.exists():
        for name in grids:
            save_arrays(whole / "encoders" / name, _plus(like, len(name)))
        grids_by_name = {name: {"grid": grid} for name, grid in grids.items()}
        (whole / "manifest.json").write_text(json.dumps({"encoders": grids_by_name}))
        (whole / SEEN).write_text('{"p0": ["aa", "bb"], "p1": ["cc"]}')
        seal(whole)

    def use(place: Path, name: str, number: int) -> tuple[str, object]:
        run = Pretrained.read(str(place))
        weights = [jax.tree.map(np.asarray, run.weights(one, grid, like)) for one, grid in grids.items()]
        return "weights", [dict(run.seen), dict(run.grids), weights]

    return damage.trials(whole, count, use, folder / "faults-encoders")


def checkpoints(folder: Path, count: int) -> dict:
    """Faults in checkpoints and test results; a missing file is made again from the state before."""
    whole, state = folder / "going on", {"w": jnp.arange(12.0).reshape(3, 4), "b": jnp.zeros(2)}
    names = ("slope", "last_visit")
    if not whole.exists():
        kept = Checkpoints(whole / "gru")
        for step in (4, 8):
            kept.save(step, _plus(state, step))
        kept.close()
        for name in names:
            ModelResults({"score": np.full((1, 2, 2, 3), float(len(name)))}, {"notes": [name]}).save(
                whole / f"{name}.npz"
            )

    def use(place: Path, name: str, number: int) -> tuple[str, object]:
        found = Checkpoints(place / "gru").resume(state)
        right = found is None or damage.same(_arrays(found[1]), _arrays(_plus(state, found[0])))
        tested = {one: ModelResults.load(place / f"{one}.npz") for one in names}
        right &= all(
            made is None or (made.metadata == {"notes": [one]} and bool(np.all(made.forecasts["score"] == len(one))))
            for one, made in tested.items()
        )
        return "gone on", right

    return damage.trials(whole, count, use, folder / "faults-going-on")


def _plus(tree: dict, number: int) -> dict:
    return {name: array + number for name, array in tree.items()}


def _arrays(tree: dict) -> dict:
    return {name: np.asarray(array) for name, array in tree.items()}
