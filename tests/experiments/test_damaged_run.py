"""A run in whose folder anything was changed gives neither a forecast nor a report."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from framework.runs import execute
from tests.experiments.conftest import call, runner, runs_of


@pytest.fixture
def run(fitted, tmp_path) -> Path:
    return Path(shutil.copytree(runs_of(fitted[0], "forecast")[0], tmp_path / "run"))


def nan_weights(run: Path) -> Path:
    """Weights that are no numbers, in a file whose checksums hold."""
    file = next((run / "models" / "gru").rglob("arrays.npz"))
    with np.load(file) as held:
        arrays = {name: np.full_like(held[name], np.nan) for name in held.files}
    np.savez(file, **arrays)
    return file


def edited(name: str, old: str, new: str):
    def edit(run: Path) -> Path:
        text = (run / name).read_text()
        assert old in text
        (run / name).write_text(text.replace(old, new))
        return run / name

    return edit


def cut(name: str):
    def shorten(run: Path) -> Path:
        file = next(file for file in sorted((run / name).rglob("*")) if file.is_file() and file.parts[-2] == "c")
        file.write_bytes(file.read_bytes()[:-9])
        return file

    return shorten


def gone(name: str):
    def remove(run: Path) -> Path:
        (run / name).unlink()
        return run / name

    return remove


@pytest.mark.parametrize(
    "damage",
    [nan_weights, edited("config.yaml", "width: 4", "width: 5"), edited("manifest.json", "points", "meters")],
    ids=["weights", "configuration", "manifest"],
)
def test_a_damaged_model_forecasts_nothing(run, fitted, tmp_path, damage):
    file = damage(run)
    told = call("predict", f"run={run}", f"data.path={fitted[0]}/visits.csv", f"runs={tmp_path}/runs", "ahead=[1]")
    assert told.code == 1
    assert f"{file} is not what the run wrote" in told.err[-1]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (edited("metrics.jsonl", '"step": 2', '"step": 3'), "is not what the run wrote"),
        (edited("leaderboard.json", '"gru"', '"gRu"'), "is not what the run wrote"),
        (cut("forecasts.zarr"), "is not what the run wrote"),
        (gone("history.csv"), "is missing"),
        (gone("participants.json"), "is missing"),
    ],
    ids=["metrics", "leaderboard", "forecasts", "history", "participants"],
)
def test_a_damaged_run_is_not_reported_on(run, damage, what):
    page = (run / "report.html").read_bytes() if (run / "report.html").exists() else None
    file = damage(run)
    told = call("report", f"run={run}")
    assert told.code == 1
    assert f"{file} {what}" in told.err[-1]
    assert page is None or (run / "report.html").read_bytes() == page


def test_a_run_of_an_earlier_version_is_refused_with_its_command(run, fitted, tmp_path):
    (run / "digests.json").unlink()
    command, file = "python -m experiments.forecast model=gru", run / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"command": command}))
    for told in (
        call("report", f"run={run}"),
        call("predict", f"run={run}", f"data.path={fitted[0]}/visits.csv", f"runs={tmp_path}/runs", "ahead=[1]"),
    ):
        assert told.code == 1
        assert "an earlier version wrote it; delete the folder and give its command again" in told.err[-1]
        assert told.err[-1].endswith(command)


def test_a_model_that_changed_while_its_run_was_stopped_is_refused(fitted, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    command, floor = runner(fitted[0]), ["model=slope", "resamples=100", f"runs={tmp_path}/runs"]
    with monkeypatch.context() as patch:
        patch.setattr(execute, "finish", stop)
        assert command("forecast", *floor).code == 130
    [made] = runs_of(tmp_path, "forecast")
    edited("models/slope/intervals.json", "0.", "1.")(made)
    told = command("forecast", *floor)
    assert told.code == 1
    assert "models/slope is not what was saved; delete" in told.err[-1]
    (made / "model_results" / "slope.npz").unlink()
    assert command("forecast", *floor).code == 0


def test_a_finished_run_is_shown_as_it_was_written_or_not_at_all(fitted, tmp_path):
    """Given again, the same command reads what is there."""
    floor = ["model=slope", "resamples=100", f"runs={tmp_path}/runs"]
    assert runner(fitted[0])("forecast", *floor).code == 0
    [made] = runs_of(tmp_path, "forecast")
    (made / "status.json").write_text("{")  # which holds no result
    assert runner(fitted[0])("forecast", *floor).code == 0
    edited("leaderboard.json", '"value": ', '"value": 1')(made)
    told = runner(fitted[0])("forecast", *floor)
    assert told.code == 1
    assert "leaderboard.json is not what the run wrote" in told.err[-1]
    assert told.out == ""
