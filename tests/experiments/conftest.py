"""The commands as a user meets them, run in this process on a table of a few patients."""

import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from framework.data.cohort.store import exists, verify

QUICK = (
    "training.steps=4",
    "training.eval_every=2",
    "training.batch=8",
    "model.head.cell.features=4",
    "model.width=4",
    "resamples=100",
)


@dataclass(frozen=True)
class Told:
    """What a command said: its exit code, standard output, and the lines of standard error."""

    code: int
    out: str
    err: list[str]


def rows(subjects: int = 12, visits: int = 3, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    lines = []
    for i in range(subjects):
        start, at = rng.normal(25, 3), np.cumsum([0, *rng.uniform(0.5, 1.5, visits - 1)])
        for j, time in enumerate(at):
            score = start - 2 * time + rng.normal(0, 0.3)
            stage = "ill" if score < 23 else "well"
            lines.append(
                f"s{i:02},{j + 1},{time:.3f},{score:.2f},{stage},{70 + i + time:.2f},{'late' if i % 2 else 'early'}"
            )
    return lines


HEADER = "id,number,time,score,stage,age,onset"
VARIABLES = {
    "score": "{roles: [input, target], units: points}",
    "stage": "{roles: [input, target], levels: [well, ill], ordered: true}",
    "age": "{roles: [input, future], units: years, per_year: 1}",
    "onset": "{roles: [hindsight], levels: [early, late]}",
}


def write_table(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return path


def study(folder: Path) -> list[str]:
    """The overrides that tell of the table and keep everything in the folder."""
    return [
        "data=table",
        f"data.path={folder}/visits.csv",
        f"data.store={folder}/store",
        "data.reader.subject=id",
        "data.reader.order=number",
        *(f"+data.reader.variables.{name}={what}" for name, what in VARIABLES.items()),
    ]


def call(experiment: str, *arguments: str) -> Told:
    """Run a command in this process."""
    main, out, err = import_module(f"experiments.{experiment}").main, StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", [experiment, *sorted(arguments, key=lambda word: not word.startswith("-"))])
        with pytest.raises(SystemExit) as stopped:
            main()
    return Told(int(stopped.value.code or 0), out.getvalue(), err.getvalue().splitlines())


Run = Callable[..., Told]


def runner(folder: Path) -> Run:
    """Commands on the table in a folder, with their store and their runs there."""

    def command(experiment: str, *arguments: str, folds: int | None = 3) -> Told:
        places = [*study(folder), f"runs={folder}/runs"]
        if experiment in ("forecast", "compare"):
            places += ["data.targets=[score,stage]", *([f"split.folds={folds}"] if folds else [])]
        return call(experiment, *places, *arguments)

    return command


@pytest.fixture
def run(tmp_path) -> Run:
    write_table(tmp_path / "visits.csv", rows())
    return runner(tmp_path)


def whole_or_absent(store: Path) -> bool:
    """Nothing half-written: there is no folder, or a cohort without a fault."""
    return not store.exists() or (exists(str(store)) and not list(verify(str(store))))


def runs_of(folder: Path, experiment: str) -> list[Path]:
    return sorted((folder / "runs" / experiment).iterdir())


@pytest.fixture(scope="package")
def fitted(tmp_path_factory) -> tuple[Path, Told]:
    """A folder with one finished forecast in it, and what the command said."""
    folder = tmp_path_factory.mktemp("study")
    write_table(folder / "visits.csv", rows())
    return folder, runner(folder)("forecast", "model=gru", *QUICK)
