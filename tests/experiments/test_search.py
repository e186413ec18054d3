"""`hydra/sweeper=optuna` on the real command: batches as one program, the same command goes on."""

import json
import sys
from pathlib import Path

import pytest

from framework.forecast.deep.forecaster import Deep
from tests.experiments.conftest import QUICK, rows, runner, runs_of, write_table

SEARCH = ("-m", "hydra/sweeper=optuna", "hydra/launcher=vmap", *QUICK, "report=false", "hydra.sweeper.batch=2")
FOLDS = 5  # of conf/intervals/calibrated.yaml
SPACE = ("training.optimizer.learning_rate=tag(log,interval(1e-3,1e-1))", "training.dropout=interval(0,0.5)")


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    write_table(folder / "visits.csv", rows())
    return folder, runner(folder)(
        "forecast", *SEARCH, *SPACE, "hydra.sweeper.trials=4", "hydra.sweeper.repeat=['seed=0,1']"
    )


def lines(folder: Path) -> list[dict]:
    [file] = (folder / "runs" / "sweeps").rglob("jobs.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_every_trial_is_a_job_with_a_run(searched):
    folder, told = searched
    assert told.code == 0, told.err
    assert len(runs_of(folder, "forecast")) == 8
    first, second, *_ = told.out.splitlines()[-3:]
    assert first == "search: 4 of 4 trials ended, 0 failed, 0 pruned"
    jobs = lines(folder)
    means = [(jobs[2 * i]["value"] + jobs[2 * i + 1]["value"]) / 2 for i in range(4)]
    best = means.index(min(means))
    assert second.startswith(f"  best {min(means):.4g} (trial {best}): training.dropout=0.")
    assert "sweep: 8 of 8 jobs finished" in told.out.splitlines()[-1]


def test_the_same_command_shows_it_and_more_trials_go_on(searched, monkeypatch):
    folder, there = searched
    trained, honest = [], Deep.try_many

    def counted(self, request):
        trained.append(len(request))
        return honest(self, request)

    monkeypatch.setattr(Deep, "try_many", counted)
    again = runner(folder)("forecast", *SEARCH, *SPACE, "hydra.sweeper.trials=4", "hydra.sweeper.repeat=['seed=0,1']")
    assert (again.code, trained) == (0, [])
    assert again.out.splitlines()[-3:] == there.out.splitlines()[-3:]
    more = runner(folder)("forecast", *SEARCH, *SPACE, "hydra.sweeper.trials=6", "hydra.sweeper.repeat=['seed=0,1']")
    assert (more.code, trained) == (0, [4 * (1 + FOLDS)])  # each beside its fits that calibrate
    assert "search: 6 of 6 trials ended" in more.out
    assert [line["job"] for line in lines(folder)] == list(range(12))


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (
            ("hydra.sweeper.sampler=annealing", *SPACE),
            "hydra.sweeper: no sampler 'annealing'; available are tpe, cmaes",
        ),
        (("seed=1",), "nothing to search; give at least one key a range or a choice"),
        (
            ("training.optimizer.lerning_rate=1e-3,1e-2",),
            "no key 'training.optimizer.lerning_rate' in the config of this command",
        ),
        (("model=gru,gur",), "Could not find 'model/gur'"),
        (("hydra.sweeper.storage=/proc/none/search.db", *SPACE), "cannot write to /proc/none"),
        (("hydra.sweeper.trials=many", *SPACE), "hydra.sweeper.trials"),
    ],
)
def test_what_cannot_be_searched_is_told_in_one_line(told, line, tmp_path):
    write_table(tmp_path / "visits.csv", rows())
    said = runner(tmp_path)("forecast", *SEARCH, *told)
    assert said.code == 1
    assert len(said.err) == 1, said.err
    assert line in said.err[0]
    assert not (tmp_path / "runs" / "forecast").exists()


def test_without_optuna_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "hydra_plugins.prognax_sweeper._impl", raising=False)
    said = runner(tmp_path)("forecast", *SEARCH, *SPACE)
    assert said.err == ["error: hydra/sweeper=optuna needs optuna; pip install 'prognax[search]'"]
