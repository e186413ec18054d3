"""`python -m experiments.compare`: several forecasters, the same folds, one leaderboard."""

import json

import numpy as np
import pytest

from framework.evaluate import leaderboard, outcomes
from framework.forecast.references import LastVisit
from tests.experiments.conftest import runner, runs_of

SMALL = "[model.head.cell.features\\=4,model.width\\=4]"


@pytest.fixture(scope="module")
def compared(fitted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    arguments = ["models=[slope,gru,mine]", f"+model_overrides.gru={SMALL}", "repeats=2", "resamples=100"]
    arguments += ["+model_overrides.mine=[model\\=last_visit]", "+repeats_per_model.mine=1"]
    arguments += ["training.steps=4", "training.eval_every=2", "training.batch=8", f"runs={folder}/runs"]
    return runner(fitted[0])("compare", *arguments), runs_of(folder, "compare")[0]


def test_every_model_and_both_floors_are_on_the_leaderboard(compared):
    told, folder = compared
    assert told.code == 0, told.err
    rows, resamples = leaderboard.read(folder)
    assert {(row.model, row.target) for row in rows} == {
        (model, target) for model in ("last_visit", "slope", "gru", "mine") for target in ("score", "stage")
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
    assert list(fitted) == ["last_visit", "slope", "gru", "mine"]


def test_a_name_of_ones_own_stands_for_what_its_settings_choose_in_as_many_repeats_as_it_is_given(compared):
    for one in outcomes.read(compared[1]):
        assert {model: len(told) for model, told in one.forecasts.items()} == {
            "last_visit": 2,
            "slope": 2,
            "gru": 2,
            "mine": 1,
        }
        np.testing.assert_array_equal(one.forecasts["mine"], one.forecasts["last_visit"][:1])
        assert len(one.table()) == 7 * len(one.truth)
    rows, _ = leaderboard.read(compared[1])
    for row in (row for row in rows if row.model == "mine"):
        against = row.differences["last_visit"]
        assert against.value in (0, None), "over the repeats in which both took part"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"+repeats_per_model.lstm": 1},
            "repeats_per_model names 'lstm', which is not in models=['slope']; add or remove it",
        ),
        ({"+repeats_per_model.slope": 3}, "repeats_per_model.slope is 3; expected 1 to repeats=2"),
    ],
)
def test_repeats_of_a_model_that_cannot_be_are_told(fitted, tmp_path, changes, complaint):
    told = runner(fitted[0])(
        "compare", "models=[slope]", "repeats=2", f"runs={tmp_path}", *(f"{k}={v}" for k, v in changes.items())
    )
    assert (told.code, told.err) == (1, [f"error: {complaint}"])


def test_a_study_that_stopped_goes_on_with_the_models_not_yet_tested(fitted, tmp_path, monkeypatch):
    arguments = ["compare", "models=[slope]", "repeats=1", "resamples=100", f"runs={tmp_path}/runs", "report=false"]
    with monkeypatch.context() as patch:
        patch.setattr(LastVisit, "fit_many", _stops_at(2, LastVisit.fit_many))
        with pytest.raises(RuntimeError, match="power"):
            runner(fitted[0])(*arguments)
    fits = []
    monkeypatch.setattr(LastVisit, "fit_many", lambda *a, f=LastVisit.fit_many, **k: fits.append(1) or f(*a, **k))
    assert runner(fitted[0])(*arguments).code == 0
    assert len(fits) == 1, "the first floor was tested before the stop"
    (folder,) = runs_of(tmp_path, "compare")
    assert not (folder / "model_results").exists()


def _stops_at(number, fit_many):
    calls = []

    def wrapped(*args, **kwargs):
        calls.append(1)
        if len(calls) == number:
            raise RuntimeError("no power")
        return fit_many(*args, **kwargs)

    return wrapped


def _config(folder):
    import yaml

    return yaml.safe_load((folder / "config.yaml").read_text())


def test_each_fold_has_its_own_learning_curve(compared):
    rows = [json.loads(line) for line in (compared[1] / "metrics.jsonl").read_text().splitlines()]
    assert {(row["model"], row["member"]) for row in rows} == {("gru", member) for member in range(6)}
