"""`python -m experiments.forecast`, from a table to a report."""

import csv
import json
import re

import numpy as np
import pytest

from framework.evaluate import outcomes
from framework.types import LEVELS
from tests.experiments.conftest import QUICK, rows, runner, runs_of, write_table

FILES = {
    "config.yaml",
    "certificate.json",
    "chosen.json",
    "cost.json",
    "digests.json",
    "forecasts",
    "forecasts.zarr",
    "history.csv",
    "leaderboard.json",
    "ledger.csv",
    "manifest.json",
    "methods.md",
    "methods.tex",
    "metrics.jsonl",
    "models",
    "participants.json",
    "references.bib",
    "report.html",
    "roles.csv",
    "status.json",
    "subgroups.json",
    "tables",
}


@pytest.fixture(scope="module")
def folder(fitted):
    return runs_of(fitted[0], "forecast")[0]


def test_it_prints_a_leaderboard_and_where_the_report_lies(fitted, folder):
    told = fitted[1]
    assert told.code == 0
    for name in ("last_visit", "slope", "gru", "score", "stage"):
        assert name in told.out
    assert told.out.splitlines()[-1] == f"report: {folder / 'report.html'}"
    assert told.err[0] == f"no cohort at {fitted[0]}/store yet; ingesting table"


def test_a_run_folder_holds_everything_and_no_scaffold(folder):
    assert {path.name for path in folder.iterdir()} == FILES
    assert {path.name for path in (folder / "models").iterdir()} == {"last_visit", "slope", "gru"}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["models"] == ["last_visit", "slope", "gru"]
    assert manifest["targets"] == ["score", "stage"]
    assert manifest["data"]["subjects"] == 12
    assert manifest["test_subjects"] == 4
    assert manifest["finished"]


def test_the_report_is_one_page_that_needs_nothing_else(folder):
    page = (folder / "report.html").read_text()
    assert "gru" in page
    assert not re.search(r"""(src|href)=["'](https?:)?//""", page)


def test_forecasts_are_of_the_held_out_alone_and_kept_whole(folder):
    score, stage = outcomes.read(folder)
    assert len(score.subjects) == 4
    assert score.forecasts["gru"].shape == (1, len(score.truth), len(LEVELS) + 1)
    np.testing.assert_allclose(stage.forecasts["gru"].sum(-1), 1, rtol=1e-5)
    with (folder / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    last = {}
    for row in history:
        if row["target"] == "score":
            last[row["subject"], int(row["visit"])] = float(row["value"])
    for k, i in enumerate(score.subject):
        expected = last[score.subjects[i], int(score.origin[k])]
        assert score.points("last_visit")[0, k] == pytest.approx(expected, rel=1e-6)


def test_a_finished_run_is_shown_not_made_again(fitted, folder, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    monkeypatch.setattr("framework.runs.job.Job.fit", lambda *_: pytest.fail("fitted again"))
    told = runner(fitted[0])("forecast", "model=gru", *QUICK)
    assert (told.code, told.out, told.err) == (0, fitted[1].out, [])
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_runs_elsewhere_are_the_same_runs(fitted, tmp_path, monkeypatch):
    """The same hash in another place; another seed or other data give another."""
    monkeypatch.setattr("framework.report.page.build", lambda folder: None)
    command = runner(fitted[0])
    floor = ["model=last_visit", "resamples=100"]
    for changes in ([], [f"runs={tmp_path}/other"], ["seed=1"], ["split.seed=1"]):
        assert command("forecast", *floor, f"runs={tmp_path}/runs", *changes).code == 0
    assert len(runs_of(tmp_path, "forecast")) == 3
    there = next((tmp_path / "other" / "forecast").iterdir())
    assert there.name in {path.name for path in runs_of(tmp_path, "forecast")}
    write_table(tmp_path / "visits.csv", rows(seed=1))
    assert runner(tmp_path)("forecast", *floor, f"data.store={tmp_path}/new").code == 0
    assert len(runs_of(tmp_path, "forecast")) == 4


def test_an_interrupted_run_says_so_goes_on_and_ends_the_same(fitted, tmp_path, monkeypatch):
    from framework.runs.progress import TrainingProgress

    command, quick = runner(fitted[0]), [*QUICK, "training.checkpoint_seconds=0.0", f"runs={tmp_path}/runs"]
    log = TrainingProgress.__call__

    def stop(self, row):
        log(self, row)
        if row["step"] == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "__call__", stop)
        told = command("forecast", "model=gru", *quick)
    assert (told.code, told.err[-1]) == (130, "interrupted; the same command goes on from the last checkpoint")
    halted = runs_of(tmp_path, "forecast")[0]
    assert "finished" not in json.loads((halted / "manifest.json").read_text())
    assert command("forecast", "model=gru", *quick).code == 0
    assert runs_of(tmp_path, "forecast") == [halted]
    steps = [json.loads(line)["step"] for line in (halted / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4], "each round is told once, though the last was trained twice"
    whole = outcomes.read(runs_of(fitted[0], "forecast")[0])
    for one, other in zip(outcomes.read(halted), whole, strict=True):
        np.testing.assert_array_equal(one.forecasts["gru"], other.forecasts["gru"])


def test_a_sweep_makes_a_folder_for_each_job(fitted, tmp_path):
    told = runner(fitted[0])("forecast", "model=last_visit", "seed=0,1", "resamples=100", f"runs={tmp_path}/runs", "-m")
    assert told.code == 0, told.err
    folders = runs_of(tmp_path, "forecast")
    assert len(folders) == 2
    seeds = [re.search(r"^seed: (\d)$", (folder / "config.yaml").read_text(), re.M)[1] for folder in folders]
    assert sorted(seeds) == ["0", "1"]
    assert all((folder / "report.html").exists() for folder in folders)
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}, "Hydra makes no folders of its own"


@pytest.mark.parametrize(
    ("choices", "name"),
    [
        ({"model": "gru", "model/head": "gru", "model/encoder": "tabular"}, "gru"),
        ({"model": "deep", "model/head": "gru", "model/encoder": "tabular"}, "gru"),
        ({"model": "gru", "model/head": "lstm", "model/encoder": "tabular"}, "lstm"),
        ({"model": "lstm", "model/head": "gru", "model/encoder": "cnn3d"}, "cnn3d_gru"),
        ({"model": "cnn_gru", "model/head": "lstm", "model/encoder": "cnn3d"}, "cnn3d_lstm"),
        ({"model": "cnn_gru", "model/head": "gru", "model/encoder": "cnn3d"}, "cnn_gru"),
        ({"model": "slope"}, "slope"),
    ],
)
def test_a_model_is_called_by_what_it_is(choices, name, monkeypatch):
    from hydra import initialize_config_module
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from framework.config.model_configs import ModelConfigs

    made = OmegaConf.create({"runtime": {"choices": choices}})
    monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: made))
    with initialize_config_module("conf", version_base="1.3"):
        assert ModelConfigs().studied_name() == name
