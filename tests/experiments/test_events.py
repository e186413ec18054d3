"""Time to event through the commands: fitted, compared, drawn, and told of new patients under two plans."""

import csv

import numpy as np
import pandas as pd
import pytest

from tests.experiments.conftest import call, runs_of

EVENT = "+data.events.falling_ill={_target_: framework.data.queries.events.ThresholdReached, variable: stage, level: ill, horizons: [1.0, 3.0]}"
VARIABLES = {
    "score": "{roles: [input], units: points}",
    "stage": "{roles: [input, target], levels: [well, ill], ordered: true}",
    "arm": "{roles: [input, future], levels: [placebo, drug]}",
    "age": "{roles: [input, future], units: years, per_year: 1}",
}


def lines(subjects: int = 48) -> list[str]:
    """The drug keeps people well three times as long."""
    rng = np.random.default_rng(0)
    told = ["id,time,score,stage,arm,age"]
    for i in range(subjects):
        arm = ("placebo", "drug")[i % 2]
        came = rng.exponential(1.5 + 3 * (arm == "drug"))
        for time in np.arange(0, 1 + rng.integers(1, 5)):
            told.append(f"s{i:02},{time},{rng.normal():.2f},{'ill' if time >= came else 'well'},{arm},{60 + time}")
    return told


def study(folder, name: str = "visits") -> list[str]:
    return [
        "data=table",
        f"data.path={folder}/{name}.csv",
        f"data.store={folder}/{name}",
        f"runs={folder}/runs",
        "data.reader.subject=id",
        *(f"+data.reader.variables.{variable}={spec}" for variable, spec in VARIABLES.items()),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("events")
    (folder / "visits.csv").write_text("\n".join(lines()) + "\n")
    told = call(
        "forecast", *study(folder), EVENT, "data.targets=[falling_ill]", "model=cox", "split.folds=3", "resamples=100"
    )
    assert told.code == 0, told.err
    return folder, told


def test_a_run_tells_scores_and_leaves_out_by_name(folder):
    folder, told = folder
    assert "C-index (Uno)" in told.out
    assert "falling_ill:" in told.out
    (run,) = runs_of(folder, "forecast")
    forecasts = pd.read_csv(run / "forecasts" / "falling_ill.csv")
    assert set(forecasts["model"]) == {"last_visit", "slope", "cox"}
    assert (forecasts["s_1"].to_numpy() >= forecasts["s_3"].to_numpy()).all()
    assert not forecasts.duplicated(subset=["model", "subject", "origin"]).any()
    with (run / "ledger.csv").open() as file:
        out = [row for row in csv.DictReader(file) if row["item"] == "falling_ill"]
    assert {row["reason"] for row in out} == {
        "falling_ill had come by this visit",
        "nothing is known of falling_ill after this visit",
    }
    page = (run / "report.html").read_text()
    assert "Survival" in page
    assert "Brier score" in page


def test_new_patients_are_told_their_survival_under_each_plan(folder, tmp_path):
    folder, _ = folder
    (run,) = runs_of(folder, "forecast")
    (tmp_path / "new.csv").write_text("id,time,score,stage,arm,age\np,0,1,well,placebo,60\nq,0,NA,well,NA,NA\n")
    survival = {}
    for arm in ("placebo", "drug"):
        told = call("predict", f"run={run}", *study(tmp_path, "new"), "ahead=[0.5,1,3]", f"+future.arm={arm}")
        assert told.code == 0, told.err
        table = pd.read_csv(told.out.splitlines()[-1].removeprefix("forecasts: "))
        assert list(table["ahead"]) == [0.5, 1, 3] * 2
        survival[arm] = table["survival"].to_numpy().reshape(2, 3)
        assert (np.diff(survival[arm], axis=1) <= 0).all()
        assert np.isfinite(survival[arm]).all()  # of q nothing but the stage is known
    assert (survival["drug"][:, 1:] > survival["placebo"][:, 1:]).all()
    wrong = call("predict", f"run={run}", *study(tmp_path, "new"), "ahead=[1]", "+future.arm=surgery")
    assert wrong.code == 1
    assert "arm is 'surgery'; expected one of ['placebo', 'drug']" in wrong.err[-1]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["data.targets=[falling_ill]"], "target 'falling_ill' is not in the cohort"),
        ([EVENT.replace("ill,", "dead,"), "data.targets=[falling_ill]"], "stage reaches 'dead'; expected one of"),
    ],
)
def test_what_cannot_be_is_one_line(folder, arguments, complaint):
    folder, _ = folder
    told = call("forecast", *study(folder), *arguments, "model=cox")
    assert told.code == 1
    assert complaint in told.err[-1]
