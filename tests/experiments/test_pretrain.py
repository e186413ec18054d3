"""Pretraining from the command line, and the forecasts that start from it."""

import json

import numpy as np
import pytest

from framework.data.cohort.ledger import Ledger
from framework.data.cohort.store import write
from framework.data.ingest.atrophy import Atrophy
from framework.files import lock_folder
from framework.runs import pretrain as module
from framework.train.reconstruction import Reconstruction
from tests.cohorts import SCHEMA, subject
from tests.experiments.conftest import QUICK, call, runs_of

pytestmark = pytest.mark.long

ENCODER = ("model/encoder=autoencoder", "model.encoder.channels=[4,4]", "model.encoder.out_features=4")
SHORT = ("training.steps=4", "training.eval_every=2", "model.decoder.channels=[4,4]")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A cohort with scans, where its data are kept and the encoders pretrained on it."""
    folder = tmp_path_factory.mktemp("study")
    settings = dict(Atrophy(200, 0).settings)  # of data=atrophy, in whose place this smaller one is
    write(str(folder / "store"), SCHEMA, _subjects(folder / "store"), {"settings": settings, "files": {}})
    told = call("pretrain", *places(folder), *ENCODER, *SHORT)
    return folder, told


def _subjects(store):
    """Those of the small cohort, and then its ledger."""
    rng = np.random.default_rng(0)
    yield from (subject(i, rng) for i in range(12))
    Ledger().write(str(store / "ledger.csv"))


def places(folder) -> list[str]:
    return [f"data.store={folder}/store", f"runs={folder}/runs", "split.folds=3", "data.hidden=[]"]


def forecast(folder, *overrides: str):
    target = ["data=atrophy", "model=gru", "data.targets=[score]", *QUICK]
    return call("forecast", *places(folder), *target, *overrides)


def test_it_tells_the_error_and_keeps_the_encoders(study):
    folder, told = study
    assert told.code == 0, told.err
    (run,) = runs_of(folder, "pretrain")
    manifest = json.loads((run / "manifest.json").read_text())
    assert set(manifest["encoders"]) == {"t1", "flair"} == {path.name for path in (run / "encoders").iterdir()}
    for name, facts in manifest["encoders"].items():
        assert f"{name}: 4 steps on {facts['scans']} scans; mean squared error of validation scans" in told.out
    assert told.out.splitlines()[-1] == f"encoders: {run}"
    assert len(json.loads((run / "seen.json").read_text())) == 8
    again = call("pretrain", *places(folder), *ENCODER, *SHORT)
    assert again.out == told.out
    assert runs_of(folder, "pretrain") == [run]


def test_a_killed_pretraining_goes_on_with_what_is_missing_and_a_finished_one_is_shown(study, tmp_path, monkeypatch):
    folder, told = study
    here = [*places(folder), f"runs={tmp_path}/runs", *ENCODER, *SHORT]
    with monkeypatch.context() as patch:
        patch.setattr(module, "_training_scans", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        assert call("pretrain", *here).code == 130
    [run] = runs_of(tmp_path, "pretrain")
    assert "finished" not in json.loads((run / "manifest.json").read_text())
    monkeypatch.setattr(Reconstruction, "fit", lambda *_: pytest.fail("an encoder was trained again"))
    assert call("pretrain", *here).out.splitlines()[:-1] == told.out.splitlines()[:-1]
    assert json.loads((run / "status.json").read_text())["state"] == "finished"
    assert not (run / "checkpoints").exists()
    [whole] = runs_of(folder, "pretrain")
    for weights in (run / "encoders").rglob("*.npz"):
        assert weights.read_bytes() == (whole / weights.relative_to(run)).read_bytes()
    with lock_folder(run):
        assert call("pretrain", *here).code == 0, "what is finished is shown to everybody"


@pytest.mark.parametrize("frozen", ["true", "false"])
def test_a_forecast_starts_from_it_on_the_same_split_alone(study, frozen):
    folder, _ = study
    (run,) = runs_of(folder, "pretrain")
    told = forecast(folder, *ENCODER, f"model.pretrained={run}", f"model.frozen={frozen}")
    assert told.code == 0, told.err
    other = forecast(folder, *ENCODER, f"model.pretrained={run}", f"model.frozen={frozen}", "split.fold=1")
    assert other.code == 1
    assert len(other.err) == 1
    assert "pretrain with this run's split settings" in other.err[0]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("model/encoder=tabular", "no image encoder to train"),
        ("data.hidden=[t1,flair]", "there are no scans to train on"),
        ("model/encoder=plain3d", "needs scans of at least 16 voxels a side"),
        ("training.batch=0", "training.batch is 0"),
    ],
)
def test_mistakes_end_in_one_line(study, override, line):
    told = call("pretrain", *places(study[0]), *SHORT, override)
    assert told.code == 1
    assert len(told.err) == 1
    assert told.err[0].startswith("error: ")
    assert line in told.err[0]
