"""A search over a function that takes no time, in this process or as a program that kills itself: toy.py FOLDER KILL."""

import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser

from framework.sweeps.search import store
from framework.sweeps.search.search import Search
from framework.sweeps.search.settings import Settings
from framework.sweeps.search.space import Space

optuna.logging.set_verbosity(optuna.logging.ERROR)
KEYS = ("x=interval(0,1)", "y=tag(log,interval(1e-3,1))", "n=range(1,9)", "kind=a,b")
Objective = Callable[[dict[str, str]], list[float] | None]


def parse(lines: Sequence[str]):
    return OverridesParser.create().parse_overrides(list(lines))


def space(lines: Sequence[str] = KEYS, repeat: Sequence[str] = ()) -> Space:
    return Space.of(parse(lines), parse(repeat))


def loss(told: dict[str, str]) -> list[float]:
    """Least at x=0.3, y=0.03, n=5, kind=b; a job that is longer has less of it."""
    x, y, n = (float(told.get(key, usual)) for key, usual in (("x", 0.3), ("y", 0.03), ("n", 5)))
    ease = {"a": 0.5, "b": 0.0}[told.get("kind", "b")]
    return [
        (x - 0.3) ** 2 + math.log10(y / 0.03) ** 2 + abs(n - 5) / 10 + ease
        + 10 / float(told.get("steps", 100)) + float(told.get("seed", 0)) / 100
    ]  # fmt: skip


class Jobs:
    """Runs jobs as a launcher would, and keeps their numbers and overrides; `interrupt` ends it before one of them."""

    def __init__(self, objective: Objective = loss, interrupt: Callable[[int], None] = lambda done: None):
        self.objective, self.interrupt = objective, interrupt
        self.batches: list[range] = []
        self.told: dict[int, dict[str, str]] = {}

    def __call__(self, jobs: Sequence[Sequence[str]], first: int) -> list[list[float] | None]:
        self.batches.append(range(first, first + len(jobs)))
        values = []
        for number, job in enumerate(jobs, first):
            self.interrupt(number)
            self.told[number] = dict(line.split("=", 1) for line in job)
            values.append(self.objective(self.told[number]))
        return values


def search(
    study: optuna.Study | Path | None, settings: Settings, jobs: Jobs, searched: Space | None = None
) -> list[tuple]:
    """All trials of a study (on disk, in memory, or a new one): what was drawn, how it ended, what came of it."""
    searched = searched or space()
    if isinstance(study, Path):
        what = {"sampler": settings.sampler, "seed": settings.seed, **searched.describe()}
        with store.open_study(study, what, len(settings.objectives)) as there:
            return search(there, settings, jobs, searched)
    study = study or optuna.create_study(directions=["minimize"] * len(settings.objectives))
    Search(study, searched, settings, jobs).run()
    return [(one.params, one.state.name, one.values, one.intermediate_values) for one in study.trials]


if __name__ == "__main__":
    folder, kill = Path(sys.argv[1]), sys.argv[2]

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if kill.startswith("tell"):  # in the midst of telling what came of a batch
        honest, left = optuna.Study.tell, iter(range(int(kill[4:])))
        optuna.Study.tell = lambda *a, **k: die() if next(left, None) is None else honest(*a, **k)
    if kill.startswith("draw"):  # in the midst of drawing a batch
        draw, more = optuna.Study.add_trial, iter(range(int(kill[4:])))
        optuna.Study.add_trial = lambda *a: die() if next(more, None) is None else draw(*a)

    def counted(told: dict[str, str]) -> list[float]:
        with (folder / "evaluated").open("a") as file:
            file.write(f"{sorted(told.items())}\n")
        return loss(told)

    at = int(kill[3:]) if kill.startswith("job") else -1
    jobs = Jobs(counted, lambda number: die() if number == at else None)
    search(folder / "search.db", Settings(trials=60), jobs)
