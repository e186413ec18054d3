"""`hydra/launcher=vmap`: many jobs as few programs, each with the run it would have had alone."""

import errno
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from framework.errors import UserError
from framework.evaluate import outcomes
from framework.files import lock_folder
from framework.forecast.deep.forecaster import Deep
from framework.runs import evaluation
from tests.experiments.conftest import QUICK, call, rows, runner, runs_of, write_table

MANY = ("-m", "hydra/launcher=vmap", *QUICK, "report=false")
LANES = ("seed=0,1", "training.optimizer.learning_rate=1e-3,1e-2", "split.fold=0,2")


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of eight jobs that differ in what a program takes as arrays."""
    folder = tmp_path_factory.mktemp("sweep")
    write_table(folder / "visits.csv", rows())
    return folder, runner(folder)("forecast", *MANY, *LANES)


def lines(folder: Path) -> list[dict]:
    file = min((folder / "runs" / "sweeps").rglob("jobs.jsonl"))  # the first, whatever was tried in the folder since
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_it_says_how_many_finished_and_which_is_best(swept):
    folder, told = swept
    assert told.code == 0, told.err
    best = min(lines(folder), key=lambda line: line["value"])
    last = told.out.splitlines()[-1]
    assert last.startswith("sweep: 8 of 8 jobs finished; best ")
    assert shlex.join(best["overrides"]) in last


def test_every_job_has_the_run_it_would_have_alone(swept, tmp_path):
    folder, _ = swept
    runs = runs_of(folder, "forecast")
    assert len(runs) == 8
    chosen = next(line for line in lines(folder) if {"seed=1", "split.fold=2"} <= set(line["overrides"]))
    there = Path(chosen["run"])
    write_table(tmp_path / "visits.csv", rows())
    told = runner(tmp_path)("forecast", *(o for o in chosen["overrides"] if not o.startswith(("data", "runs"))))
    assert told.code == 0, told.err
    [alone] = runs_of(tmp_path, "forecast")
    assert {path.name for path in alone.iterdir()} - {"report.html"} == {path.name for path in there.iterdir()}
    for mine, yours in zip(outcomes.read(there), outcomes.read(alone), strict=True):
        for model, numbers in mine.forecasts.items():
            np.testing.assert_allclose(numbers, yours.forecasts[model], rtol=1e-4, atol=1e-5, err_msg=model)
    losses = [
        [row["validation"] for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())]
        for run in (there, alone)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_the_same_command_only_does_what_is_unfinished(swept, monkeypatch):
    folder, _ = swept
    there = runs_of(folder, "forecast")
    monkeypatch.setattr(Deep, "_fitted", lambda *_: pytest.fail("fitted again"))
    told = runner(folder)("forecast", *MANY, *LANES)
    assert told.code == 0
    assert told.out.splitlines()[-1].startswith("sweep: 8 of 8 jobs finished")
    assert runs_of(folder, "forecast") == there


def test_a_job_that_diverges_is_marked_and_the_others_go_on(tmp_path):
    write_table(tmp_path / "visits.csv", rows())
    told = runner(tmp_path)("forecast", *MANY, "training.optimizer.learning_rate=1e-3,1e38,1e-2")
    assert told.code == 1
    assert told.out.splitlines()[-1].startswith("sweep: 2 of 3 jobs finished")
    states = {line["failed"] is None: line for line in lines(tmp_path)}
    assert "the loss" in states[False]["failed"]
    assert "is not finite at step" in states[False]["failed"]
    found = [json.loads((run / "status.json").read_text()) for run in runs_of(tmp_path, "forecast")]
    assert sorted(one["state"] for one in found) == ["failed", "finished", "finished"]
    assert any("is not finite" in one.get("reason", "") for one in found)
    assert not any((tmp_path / "runs" / "sweeps" / "batched").iterdir())


@pytest.mark.long
def test_what_cannot_be_one_program_is_several(tmp_path):
    write_table(tmp_path / "visits.csv", rows())
    told = runner(tmp_path)("forecast", *MANY, "model.width=4,5", "seed=0,1")
    assert told.code == 0, told.err
    assert len(runs_of(tmp_path, "forecast")) == 4


@pytest.mark.long
def test_what_would_take_too_much_memory_goes_in_waves(tmp_path, monkeypatch):
    write_table(tmp_path / "visits.csv", rows())
    lanes, honest = [], Deep.try_many

    def counted(self, request):
        lanes.append(len(request))
        return honest(self, request)

    monkeypatch.setattr(Deep, "try_many", counted)
    monkeypatch.setattr(Deep, "member_bytes", lambda *_: 400_000)
    told = runner(tmp_path)("forecast", *MANY, "hydra.launcher.max_memory_gb=0.001", "seed=range(4)")
    assert told.code == 0, told.err
    assert lanes == [2, 2]


@pytest.mark.long
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UserError("no room"), "no room"),
        (MemoryError(), "out of memory"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes."), "out of memory"),
    ],
)
def test_where_a_group_finds_no_room_its_jobs_run_one_by_one(tmp_path, monkeypatch, error, told):
    def fails(*_):
        raise error

    monkeypatch.setattr(Deep, "try_many", fails)
    write_table(tmp_path / "visits.csv", rows())
    ended = runner(tmp_path)("forecast", *MANY, "seed=0,1")
    assert ended.code == 0, ended.err
    assert f"2 jobs cannot train side by side ({told}); one by one" in ended.err
    assert len(runs_of(tmp_path, "forecast")) == 2


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), TypeError("shapes differ")], ids=["run", "type"])
def test_a_fault_of_ours_in_a_group_is_no_reason_to_train_one_by_one(tmp_path, monkeypatch, error):
    def fails(*_):
        raise error

    monkeypatch.setattr(Deep, "try_many", fails)
    monkeypatch.setattr(Deep, "fit_many", lambda *_: pytest.fail("the slow path was taken"))
    write_table(tmp_path / "visits.csv", rows())
    told = runner(tmp_path)("forecast", *MANY, "seed=0,1")
    assert told.code == 1
    reason = f"{type(error).__name__}: shapes differ"
    assert [line["failed"] for line in lines(tmp_path)] == [f"internal error: {reason}"] * 2
    assert sum("Traceback" in line for line in told.err) == 1
    found = [json.loads((run / "status.json").read_text()) for run in runs_of(tmp_path, "forecast")]
    assert [(one["state"], one["reason"]) for one in found] == [("failed", reason)] * 2


def test_jobs_that_differ_in_no_result_are_one_run(tmp_path):
    write_table(tmp_path / "visits.csv", rows())
    told = runner(tmp_path)("forecast", *MANY, "seed=0,1", "training.checkpoint_seconds=5.0,20.0")
    assert told.code == 0, told.err
    assert told.out.splitlines()[-1].startswith("sweep: 4 of 4 jobs finished")
    assert len(runs_of(tmp_path, "forecast")) == 2


def test_a_command_that_cannot_share_says_so(tmp_path):
    told = runner(tmp_path)("compare", "-m", "hydra/launcher=vmap", "models=[slope]", "seed=0,1")
    assert told.code == 1
    assert told.err == ["error: experiments.compare cannot train jobs side by side; leave hydra/launcher out"]


def test_its_page_is_drawn_on_demand(swept):
    folder, _ = swept
    sweep = next((folder / "runs" / "sweeps").rglob("jobs.jsonl")).parent
    told = call("report", f"sweep={sweep}")
    assert told.code == 0, told.err
    page = (sweep / "report.html").read_text()
    assert "8 of 8 jobs finished" in page
    assert "training.optimizer.learning_rate" in page
    run = runs_of(folder, "forecast")[0]
    told = call("report", f"run={run}")
    assert told.out.splitlines()[-1] == f"report: {run / 'report.html'}"
    assert (run / "report.html").exists()


def test_jobs_that_take_turns_come_to_the_same(swept):
    folder, _ = swept
    before = {tuple(line["overrides"]): line for line in lines(folder)}
    shutil.rmtree(folder / "runs" / "forecast")
    told = runner(folder)("forecast", *MANY, "hydra.launcher.workers=1", "seed=0,1", *LANES[1:])
    assert told.code == 0, told.err
    assert "8 jobs train one after another in one process" in told.err
    newest = max((folder / "runs" / "sweeps").glob("*/jobs.jsonl"))
    for line in map(json.loads, newest.read_text().splitlines()):
        assert line["value"] == pytest.approx(before[tuple(line["overrides"])]["value"], rel=1e-4)
    commands = {json.loads((run / "manifest.json").read_text())["command"] for run in runs_of(folder, "forecast")}
    assert "hydra/launcher=vmap" in commands.pop()
    assert not commands


@pytest.mark.parametrize(
    ("mistake", "line"),
    [
        (
            ("training.optimizer.lerning_rate=1e-3,1e-2",),
            "error: no key 'training.optimizer.lerning_rate' in the config of this command; "
            "did you mean 'training.optimizer.learning_rate'?",
        ),
        (("seed=range(0)",), "error: the sweep has no jobs; give each key that is swept a value or more"),
        (
            ("seed=0,1", "hydra.launcher.workers=-1"),
            "error: hydra.launcher.workers is -1; expected 0 for jobs side by side, a number of processes, or null "
            "to let the model choose",
        ),
        (
            ("seed=0,1", "hydra.launcher.max_memory_gb=0"),
            "error: hydra.launcher.max_memory_gb is 0.0; expected more than 0",
        ),
        (
            ("seed=0,1", "hydra.launcher.lanes=[model.width]"),
            "error: no key 'hydra.launcher.lanes' in the config of this command; see --help for the keys there are",
        ),
    ],
)
def test_a_mistake_is_one_line_before_any_work(tmp_path, mistake, line):
    write_table(tmp_path / "visits.csv", rows())
    told = runner(tmp_path)("forecast", *MANY, *mistake)
    assert told.code == 1
    assert told.err == [line]
    assert not (tmp_path / "runs" / "forecast").exists()


def test_a_folder_holds_one_sweep_at_a_time(tmp_path):
    write_table(tmp_path / "visits.csv", rows())
    place = tmp_path / "sweep"
    with lock_folder(place):
        told = runner(tmp_path)("forecast", *MANY, "seed=0,1", f"hydra.sweep.dir={place}")
    assert told.code == 1
    assert told.err == [
        f"error: another process is writing to {place}; wait until it has ended, then give the same command again"
    ]


def test_a_disk_that_is_full_fails_the_job_that_meets_it(tmp_path, monkeypatch):
    honest, met = evaluation.write_atomic, []

    def full(file, text):
        if file.name == "cost.json" and not met:
            met.append(file)
            raise OSError(errno.ENOSPC, "No space left on device", str(file))
        honest(file, text)

    monkeypatch.setattr(evaluation, "write_atomic", full)
    write_table(tmp_path / "visits.csv", rows())
    told = runner(tmp_path)("forecast", *MANY, "seed=0,1")
    assert told.code == 1
    assert told.out.splitlines()[-1].startswith("sweep: 1 of 2 jobs finished")
    [line] = [line for line in told.err if "failed: " in line]
    assert f"No space left on device: {met[0]}; check the path, its permissions and the space left" in line
