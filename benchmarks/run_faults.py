"""One fault in a run's folder, of which a forecast or a report is asked; in a prediction that is shown again; in
pretrained encoders; in what an interrupted run goes on from.
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
from framework.runs.model_results import Tested
from framework.runs.predict import predict
from framework.train.array_io import save_arrays
from framework.train.checkpoint import Checkpoints

COUNTS = {"forecast or report": 500, "shown again": 120, "encoders": 120, "checkpoints": 200}
SMALL = (
    *("optimizer.steps=4", "optimizer.round=2", "optimizer.batch=8", "model.head.cell.features=4", "model.width=4"),
    *("resamples=100", "seed=1"),
)
VARIABLES = {
    "score": "{roles: [input, target], units: points}",
    "age": "{roles: [input, known_ahead], units: years, per_year: 1}",
}
OUT = ("report.html", "tables", "methods.md", "methods.tex", "references.bib")  # what a report writes
MODELS = ("config.yaml", "manifest.json", "models")  # what a prediction reads


def study(folder: Path) -> list[str]:
    """The overrides that tell of a table of a few patients, and where everything lies."""
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
        f"+data.reader.variables.{name}={what}" for name, what in VARIABLES.items()
    ]


def make(folder: Path) -> Path:
    """A finished run of a small network, made by the command."""
    command = [sys.executable, "-m", "experiments.forecast", *study(folder), "data.targets=[score]", "split.folds=3"]
    if not list((folder / "made").glob("forecast/*/report.html")):
        made = subprocess.run([*command, "model=gru", *SMALL, f"runs={folder}/made"], capture_output=True, text=True)
        if made.returncode:
            raise RuntimeError(made.stderr[-2000:])
    return next((folder / "made" / "forecast").iterdir())


@cache
def config(name: str, *overrides: str) -> DictConfig:
    """The configuration that a command would compose."""
    with initialize_config_module("conf", version_base="1.3"):
        made = compose(name, list(overrides))
    OmegaConf.resolve(made)
    return made


def forecast(run: Path, source: Path, runs: Path) -> bytes:
    """The table of a prediction made anew."""
    asked = config("predict", f"run={run}", f"data.path={source}/visits.csv", f"runs={runs}", "ahead=[1]")
    asked = asked.copy()
    asked.data.store = f"{source}/new"
    predict(asked)
    return next(runs.glob("predict/*/forecasts.csv")).read_bytes()


def drawn(run: Path) -> list[bytes]:
    """The page of a run, and the files beside it."""
    report(config("report", f"run={run}"))
    beside = sorted([*run.glob("tables/*"), run / "methods.md", run / "references.bib"])
    return [(run / "report.html").read_bytes(), *(file.read_bytes() for file in beside)]


def measure(folder: Path, counts: dict[str, int] = COUNTS) -> dict[str, dict]:
    """Cases by what is used."""
    folder = folder.absolute()
    use = {"forecast or report": asked, "shown again": again, "encoders": encoders, "checkpoints": checkpoints}
    return {f"run, {name}": use[name](folder, count) for name, count in counts.items()}


def asked(folder: Path, count: int) -> dict:
    """Each file by a command that reads it; one that both read, or none, by either."""
    run, runs = make(folder), folder / "predictions"

    def use(place: Path, name: str, number: int) -> tuple[str, object]:
        part = name.split("/")[0]
        readers = [how for how, files in (("forecast", MODELS), ("report", (*READ, *OUT))) if part in files]
        how = readers[0] if len(readers) == 1 else ("forecast", "report")[number % 2]
        if how == "report":
            return how, drawn(place)
        shutil.rmtree(runs, ignore_errors=True)
        return how, forecast(place, folder, runs)

    return damage.trials(run, count, use, folder / "faults-run", pick)


def pick(files: Sequence[Path], rng: np.random.Generator) -> Path:
    """Mostly what a command reads; the configuration, the manifests and the weights a half of the time."""
    run = files[0].parent
    parts = {file: file.relative_to(run).parts[0] for file in files}
    of = {
        "central": [file for file, part in parts.items() if part in (*MODELS, FILE)],
        "read": [file for file, part in parts.items() if part in READ],
        "any": list(files),
    }
    return damage.anyone(of[str(rng.choice(list(of), p=[0.5, 0.44, 0.06]))], rng)


def again(folder: Path, count: int) -> dict:
    """A prediction that was made is shown by the same command."""
    run, shown = make(folder), folder / "shown"
    if not shown.exists():
        forecast(run, folder, shown)

    def use(place: Path, name: str, number: int) -> tuple[str, object]:
        return "shown", forecast(run, folder, place)

    return damage.trials(shown, count, use, folder / "faults-shown")


def encoders(folder: Path, count: int) -> dict:
    """Encoders that a forecast starts from."""
    whole, like = folder / "encoders", {"w": jnp.ones((3, 4)), "b": jnp.zeros(4)}
    grids = {"t1": (8, 8), "flair": (9, 9)}
    if not whole.exists():
        for name in grids:
            save_arrays(whole / "encoders" / name, _plus(like, len(name)))
        about = {name: {"grid": grid} for name, grid in grids.items()}
        (whole / "manifest.json").write_text(json.dumps({"encoders": about}))
        (whole / SEEN).write_text('{"p0": ["aa", "bb"], "p1": ["cc"]}')
        seal(whole)

    def use(place: Path, name: str, number: int) -> tuple[str, object]:
        run = Pretrained.read(str(place))
        weights = [jax.tree.map(np.asarray, run.weights(one, grid, like)) for one, grid in grids.items()]
        return "weights", [dict(run.seen), dict(run.grids), weights]

    return damage.trials(whole, count, use, folder / "faults-encoders")


def checkpoints(folder: Path, count: int) -> dict:
    """The states of a training and what was tested; what is gone is made again, from the state before."""
    whole, state = folder / "going on", {"w": jnp.arange(12.0).reshape(3, 4), "b": jnp.zeros(2)}
    names = ("slope", "last_visit")
    if not whole.exists():
        kept = Checkpoints(whole / "gru")
        for step in (4, 8):
            kept.save(step, _plus(state, step))
        kept.close()
        for name in names:
            Tested({"score": np.full((1, 2, 2, 3), float(len(name)))}, {"notes": [name]}).save(whole / f"{name}.npz")

    def use(place: Path, name: str, number: int) -> tuple[str, object]:
        found = Checkpoints(place / "gru").resume(state)
        right = found is None or damage.same(_arrays(found[1]), _arrays(_plus(state, found[0])))
        tested = {one: Tested.load(place / f"{one}.npz") for one in names}
        right &= all(
            made is None or (made.facts == {"notes": [one]} and bool(np.all(made.answers["score"] == len(one))))
            for one, made in tested.items()
        )
        return "gone on", right

    return damage.trials(whole, count, use, folder / "faults-going-on")


def _plus(tree: dict, number: int) -> dict:
    return {name: array + number for name, array in tree.items()}


def _arrays(tree: dict) -> dict:
    return {name: np.asarray(array) for name, array in tree.items()}
