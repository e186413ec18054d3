"""`python -m experiments.compare`: several forecasters, the same folds, one leaderboard."""

import json

import numpy as np
import pytest

from framework.evaluate import leaderboard, outcomes
from tests.experiments.conftest import runner, runs_of

SMALL = "[model.head.cell.features\\=4,model.width\\=4]"


@pytest.fixture(scope="module")
def compared(fitted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    arguments = ["models=[slope,gru]", f"+settings.gru={SMALL}", "repeats=2", "resamples=100"]
    arguments += ["optimizer.steps=4", "optimizer.round=2", "optimizer.batch=8", f"runs={folder}/runs"]
    return runner(fitted[0])("compare", *arguments), runs_of(folder, "compare")[0]


def test_every_model_and_both_floors_are_on_the_leaderboard(compared):
    told, folder = compared
    assert told.code == 0, told.err
    rows, resamples = leaderboard.read(folder)
    assert {(row.model, row.target) for row in rows} == {
        (model, target) for model in ("last_visit", "slope", "gru") for target in ("score", "stage")
    }
    assert resamples == 100
    assert all(row.subjects == 12 for row in rows)
    assert (folder / "report.html").exists()
    assert not (folder / "checkpoints").exists()


def test_every_subject_is_tested_once_a_repeat_and_repeats_differ(compared):
    for one in outcomes.read(compared[1]):
        assert one.fold.shape == (2, len(one.truth))
        assert len(one.subjects) == 12
        for fold in one.fold:
            of = {subject: set(fold[one.subject == subject]) for subject in range(12)}
            assert all(len(folds) == 1 for folds in of.values())
            assert np.bincount([next(iter(folds)) for folds in of.values()]).tolist() == [4, 4, 4]
        assert (one.fold[0] != one.fold[1]).any()


def test_settings_go_to_the_model_they_name(compared):
    fitted = json.loads(json.dumps(_config(compared[1])["fitted"]))
    assert (fitted["gru"]["width"], fitted["gru"]["head"]["cell"]["features"]) == (4, 4)
    assert fitted["gru"]["training"]["steps"] == 4, "what the command line says of the optimiser holds for every model"
    assert list(fitted) == ["last_visit", "slope", "gru"]


def _config(folder):
    import yaml

    return yaml.safe_load((folder / "config.yaml").read_text())


def test_each_fold_has_its_own_learning_curve(compared):
    rows = [json.loads(line) for line in (compared[1] / "metrics.jsonl").read_text().splitlines()]
    assert {(row["model"], row["member"]) for row in rows} == {("gru", member) for member in range(6)}
