"""Runs told of elsewhere besides; what is told never changes where a run lies."""

import json
import sys
from pathlib import Path

import pytest

from framework.errors import UserError
from framework.runs.tracking import MLflow, TensorBoard, flatten
from tests.experiments.conftest import rows, runner, runs_of, write_table

SETTINGS = {"model": {"width": 4, "layers": [1, 2]}, "seed": 3}


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "runs" / "forecast" / "0123456789ab"
    folder.mkdir(parents=True)
    lines = [
        {"model": "gru", "member": member, "step": step, "train": 1.0 / step, "validation": 2.0 / step, "seconds": step}
        for member in (0, 1)
        for step in (1, 2, 4)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = [{"model": "gru", "target": "MMSE", "metric": "MAE", "value": 1.5}]
    told.append({"model": "gru", "target": "CDR > 0", "metric": "AUC (mid-ranks)", "value": None})
    (folder / "leaderboard.json").write_text(json.dumps({"rows": told}))
    return folder


def test_tensorboard_has_the_curves_once(run, tmp_path):
    pytest.importorskip("tensorboardX", reason="needs the extra tracking")
    from tensorboardX.proto.event_pb2 import Event

    tracker = TensorBoard(str(tmp_path / "board"))
    tracker.check()
    tracker.copy(run, SETTINGS)
    tracker.copy(run, SETTINGS)
    [file] = (tmp_path / "board").rglob("events.out.tfevents.*")
    found, data = {}, file.read_bytes()
    while data:
        size = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + size])
        for value in event.summary.value:
            found[value.tag, event.step] = value.simple_value
        data = data[16 + size :]
    assert {found["gru/validation", step] for step in (1, 2, 4)} == {2.0, 1.0, 0.5}
    assert found["gru/1/train", 4] == 0.25
    assert found["gru/MMSE/MAE", 0] == 1.5


def test_mlflow_has_the_run_once(run, tmp_path):
    pytest.importorskip("mlflow", reason="needs the extra tracking")
    from mlflow.tracking import MlflowClient

    tracker = MLflow(str(tmp_path / "board" / "mlflow.db"), None)
    tracker.check()
    tracker.copy(run, SETTINGS)
    tracker.copy(run, SETTINGS)
    client = MlflowClient(f"sqlite:///{tmp_path}/board/mlflow.db")
    [one] = client.search_runs([client.get_experiment_by_name("forecast").experiment_id])
    assert one.data.params == {"model.width": "4", "model.layers": "[1, 2]", "seed": "3"}
    assert one.data.tags["prognax.folder"] == str(run)
    assert one.data.metrics["gru/MMSE/MAE"] == 1.5
    history = client.get_metric_history(one.info.run_id, "gru/validation")
    assert [(row.step, row.value, row.timestamp) for row in history] == [(1, 2.0, 1000), (2, 1.0, 2000), (4, 0.5, 4000)]


def test_settings_are_told_by_their_dotted_keys():
    assert flatten({"a": {"b": {"c": 1}}, "d": None}) == {"a.b.c": 1, "d": None}


def test_what_cannot_be_tracked_is_told_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to .*file/board .*; choose another place with tracking.folder="):
        TensorBoard(str(tmp_path / "file" / "board")).check()
    write_table(tmp_path / "visits.csv", rows())
    for choice, package in (("tensorboard", "tensorboardX"), ("mlflow", "mlflow")):
        monkeypatch.setitem(sys.modules, package, None)
        told = runner(tmp_path)("forecast", "model=slope", f"tracking={choice}")
        assert (told.code, told.err) == (
            1,
            [
                f"error: tracking={choice} needs the package {package}; pip install 'prognax[tracking]', or leave tracking out"
            ],
        )
    assert not (tmp_path / "store").exists()


def test_a_run_lies_where_it_lay_whoever_is_told_of_it(tmp_path):
    pytest.importorskip("tensorboardX", reason="needs the extra tracking")
    write_table(tmp_path / "visits.csv", rows())
    for choice in ("none", "tensorboard"):
        told = runner(tmp_path)("forecast", "model=slope", f"tracking={choice}", "report=false", "resamples=100")
        assert told.code == 0, told.err
    [run] = runs_of(tmp_path, "forecast")
    assert list((tmp_path / "runs" / "tensorboard" / "forecast" / run.name).glob("events.out.tfevents.*"))
