"""A forecast of TADPOLE's table becomes a valid submission, and D4 scores it."""

import json

import pandas as pd
import pytest

from framework.tadpole.score import read_submission
from tests.experiments.conftest import call, runs_of
from tests.tadpole import tables as tadpole


@pytest.mark.long
def test_from_d1_to_a_scored_submission(tmp_path):
    courses = tadpole.write(tmp_path)
    data = ["data=tadpole", f"data.path={tmp_path}/TADPOLE_D1_D2.csv", f"data.store={tmp_path}/store"]
    places = [f"runs={tmp_path}/runs"]
    told = call("forecast", *data, *places, "model=last_visit", "split.folds=3", "resamples=100", "report=false")
    assert told.code == 0, told.err
    (run,) = runs_of(tmp_path, "forecast")
    told = call("predict", *data, *places, f"run={run}", "tadpole_submission=2018-01")
    assert told.code == 0, told.err
    (made,) = runs_of(tmp_path, "predict")
    table = read_submission(made / "submission.csv")
    asked = {rid for rid, c in courses.items() if c["rollover"]}
    assert set(table["RID"]) == asked
    assert len(table) == 60 * len(asked)
    assert table["Forecast Date"].iloc[[0, 59]].tolist() == ["2018-01", "2022-12"]
    told = call(
        "tadpole_score", f"submission={made}/submission.csv", f"ground_truth={tmp_path}/TADPOLE_D4.csv", "resamples=100"
    )
    assert told.code == 0, told.err
    assert "\nWES: weighted error score, " in told.out
    assert "\nCPA: coverage probability accuracy, " in told.out
    found = json.loads((made / "submission.scores.json").read_text())
    assert set(found) == {"mAUC", "BCA"} | {
        f"{n} {m}" for n in ("ADAS13", "Ventricles_ICV") for m in ("MAE", "WES", "CPA")
    }
    assert all(one["low"] <= one["value"] <= one["high"] for name, one in found.items() if "CPA" not in name)
    assert 0 < found["ADAS13 MAE"]["value"] < 30
    assert 0 < found["Ventricles_ICV MAE"]["value"] < 0.02
    again = pd.read_csv(tmp_path / "TADPOLE_D4.csv")
    again.assign(RID=99).to_csv(tmp_path / "strangers.csv", index=False)
    told = call(
        "tadpole_score", f"submission={made}/submission.csv", f"ground_truth={tmp_path}/strangers.csv", "resamples=100"
    )
    assert told.code == 1
    assert "have no forecast" in told.err[-1]
