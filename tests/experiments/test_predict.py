"""`python -m experiments.predict`: a saved run applied to new patients, who have no targets."""

import numpy as np
import pandas as pd
import pytest
import yaml

from framework.evaluate.outcomes import answer_names
from framework.types import Target
from tests.experiments.conftest import call, runs_of

NUMBERS = answer_names(Target("score", 0, ""))


@pytest.fixture
def new(fitted, tmp_path):
    """Predict for three new people, of whom only id, time and age are known."""
    (tmp_path / "new.csv").write_text("who,when,years\np,0,71\np,1.5,72.5\nq,0,80\nr,0,66\nr,2,68\n")
    saved = runs_of(fitted[0], "forecast")[0]

    def command(*arguments: str):
        told = call(
            "predict",
            f"run={saved}",
            "data=table",
            f"data.path={tmp_path}/new.csv",
            f"data.store={tmp_path}/new",
            "data.reader.subject=who",
            "data.reader.time.column=when",
            "+data.reader.variables.age={column: years, roles: [input, known_ahead], units: years, per_year: 1}",
            f"runs={tmp_path}/runs",
            *arguments,
        )
        table = told.out.splitlines()[-1].removeprefix("forecasts: ") if not told.code else None
        return told, table and pd.read_csv(table)

    return command


def test_every_new_subject_is_forecast_at_every_horizon(new):
    told, table = new("ahead=[0.5,2]")
    assert told.code == 0, told.err
    asked = [(s, o, a, t) for t in ("score", "stage") for s, o in (("p", 2), ("q", 1), ("r", 2)) for a in (0.5, 2.0)]
    assert list(table[["subject", "origin", "ahead", "target"]].itertuples(index=False, name=None)) == asked
    score = table[table.target == "score"][list(NUMBERS)].to_numpy()
    assert (np.diff(score) >= 0).all()
    stage = table[table.target == "stage"][["p_well", "p_ill"]].to_numpy()
    np.testing.assert_allclose(stage.sum(1), 1, rtol=1e-5)
    assert "forecasts: " in told.out.splitlines()[-1]


def test_a_forecast_is_the_same_in_any_company(new, tmp_path):
    _, table = new("ahead=[1]")
    (tmp_path / "new.csv").write_text("who,when,years\nq,0,80\n")
    _, alone = new("ahead=[1]", f"data.store={tmp_path}/one", f"runs={tmp_path}/alone")
    assert alone["subject"].tolist() == ["q", "q"]
    for part in (list(NUMBERS), ["p_well", "p_ill"]):
        np.testing.assert_allclose(alone[part], table[table["subject"] == "q"][part], rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["ahead=[]"], "expected one or more numbers of years above 0"),
        (["ahead=[1,0]"], "expected one or more numbers of years above 0"),
        (["+known.treated=1"], "the run knows ahead ['age']"),
        (["data.reader.variables.age.units=days"], "age is in days; the model was fitted on years"),
        (["+known.age=old"], "known.age: age is 'old'; expected a number in years"),
    ],
)
def test_what_cannot_be_asked_is_one_line(new, arguments, complaint):
    told, _ = new(*arguments)
    assert told.code == 1
    assert complaint in told.err[-1]


def test_what_the_new_cohort_says_of_targets_is_not_read(new):
    assert new("ahead=[1]", "data.targets=[score,nonsense]")[0].code == 0


def test_what_is_known_ahead_can_be_planned(new):
    _, table = new("ahead=[1]")
    _, planned = new("ahead=[1]", "+known.age=200")
    assert (planned[list(NUMBERS)].to_numpy()[:3] != table[list(NUMBERS)].to_numpy()[:3]).any()


def test_a_run_from_elsewhere_cannot_say_whom_to_trust(fitted, new, tmp_path):
    """A run folder that was received may name any function, and even trust it; it is not called."""
    saved = runs_of(fitted[0], "forecast")[0]
    evil = tmp_path / "evil"
    evil.mkdir()
    (evil / "manifest.json").write_text((saved / "manifest.json").read_text())
    (evil / "models").symlink_to(saved / "models")
    config = yaml.safe_load((saved / "config.yaml").read_text())
    config["fitted"]["gru"] = {"_target_": "os.mkdir", "path": str(tmp_path / "called")}
    (evil / "config.yaml").write_text(yaml.safe_dump(config | {"trust": ["os"]}, sort_keys=False))
    told, _ = new(f"run={evil}")
    assert told.code == 1
    assert "'os.mkdir' is outside ['framework', 'optax']" in told.err[-1]
    assert not (tmp_path / "called").exists()


def test_a_run_that_did_not_finish_is_refused(fitted, new, tmp_path):
    saved = runs_of(fitted[0], "forecast")[0]
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.yaml").write_text((saved / "config.yaml").read_text())
    (tmp_path / "half" / "manifest.json").write_text("{}")
    told, _ = new(f"run={tmp_path}/half")
    assert told.code == 1
    assert "keeps no fitted model" in told.err[-1]
