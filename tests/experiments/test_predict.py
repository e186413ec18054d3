"""`python -m experiments.predict`: a saved run applied to new patients, who have no targets."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from framework.digests import seal
from framework.evaluate.outcomes import answer_names
from framework.files import lock_folder
from framework.runs import predict as module
from framework.types import Number
from tests.experiments.conftest import call, runs_of

NUMBERS = answer_names(Number("score", 0, ""))


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
            "+data.reader.variables.age={column: years, roles: [input, future], units: years, per_year: 1}",
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
    score = table[table.target == "score"][["q05", "q25", "q50", "q75", "q95"]].to_numpy()
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
        (["+future.treated=1"], "expected future covariates of the run, ['age']"),
        (["data.reader.variables.age.units=days"], "age is in days; the model was fitted on years"),
        (["+future.age=old"], "future.age: age is 'old'; expected a number in years"),
    ],
)
def test_what_cannot_be_asked_is_one_line(new, arguments, complaint):
    told, _ = new(*arguments)
    assert told.code == 1
    assert complaint in told.err[-1]


def test_values_in_another_unit_are_warned_of_every_time(new, tmp_path):
    """Ages in days parse as well as ages in years; the fitted model knows which ages it has seen."""
    (tmp_path / "new.csv").write_text("who,when,years\np,0,25550\np,1,25915\n")
    for _ in range(2):
        told, _ = new("ahead=[1]")
        assert told.code == 0
        [line] = [line for line in told.err if line.startswith("warning: age: ")]
        assert "2 of 2 values lie far outside" in line


def test_what_the_new_cohort_says_of_targets_is_not_read(new):
    assert new("ahead=[1]", "data.targets=[score,nonsense]")[0].code == 0


def test_what_is_known_ahead_can_be_planned(new):
    _, table = new("ahead=[1]")
    _, planned = new("ahead=[1]", "+future.age=200")
    assert (planned[list(NUMBERS)].to_numpy()[:3] != table[list(NUMBERS)].to_numpy()[:3]).any()


def test_a_run_from_elsewhere_cannot_say_whom_to_trust(fitted, new, tmp_path):
    """A run folder that was received may name any function, and even trust it; it is not called."""
    saved = runs_of(fitted[0], "forecast")[0]
    evil = shutil.copytree(saved, tmp_path / "evil")
    config = yaml.safe_load((saved / "config.yaml").read_text())
    config["fitted"]["gru"] = {"_target_": "os.mkdir", "path": str(tmp_path / "called")}
    (evil / "config.yaml").write_text(yaml.safe_dump(config | {"trust": ["os"]}, sort_keys=False))
    seal(evil)
    told, _ = new(f"run={evil}")
    assert told.code == 1
    assert "'os.mkdir' is outside ['framework']" in told.err[-1]
    assert "'trust=[os]'" in told.err[-1]
    assert not (tmp_path / "called").exists()


@pytest.fixture
def edited(fitted, new, tmp_path):
    """Predict with a copy of the run whose configuration or manifest somebody edited."""
    saved = runs_of(fitted[0], "forecast")[0]

    def command(edit, *arguments: str):
        copy = shutil.copytree(saved, tmp_path / "received")
        tree = yaml.safe_load((saved / "config.yaml").read_text())
        manifest = json.loads((saved / "manifest.json").read_text())
        text = edit(tree, manifest)
        (copy / "config.yaml").write_text(text or yaml.dump(tree, sort_keys=False, Dumper=Plain))
        (copy / "manifest.json").write_text(json.dumps(manifest))
        seal(copy)
        told, _ = new(f"run={copy}", *arguments)
        assert told.code == 1
        assert [line for line in told.err if line.startswith("error: ")] == told.err[-1:]
        return told.err[-1]

    return command


class Plain(yaml.SafeDumper):
    def ignore_aliases(self, data):
        return True


def fits(**model):
    return lambda config, manifest: config["fitted"].update(gru=model)


EDITS = {
    "a nested run": (fits(_target_="framework.runs.predict.predict", config={"trust": ["os"]}), "may not be named"),
    "a C++ file": (fits(_target_="framework.native.register", name="x", source="/tmp/x.cc"), "may not be named"),
    "a file overwritten": (fits(_target_="framework.files.write_atomic", path="x", text=""), "may not be named"),
    "a head for a model": (fits(_target_="framework.nn.heads.mean_pool.MeanPool", features=3), "expected a Forecaster"),
    "another folder": (lambda c, m: c["fitted"].update({"../../models/gru": c["fitted"].pop("gru")}), "slash"),
    "the environment": (lambda c, m: c["data"].update(name="${oc.env:HOME}"), "${oc.env:HOME}"),
    "the cohort elsewhere": (lambda c, m: c["data"].update(name="../../evil"), "slash"),
    "an alias": (lambda c, m: "a: &a [1]\nb: *a\n", "alias"),
    "no mapping": (lambda c, m: "- 1\n", "is not a mapping"),
    "no YAML": (lambda c, m: "a: [\n", "cannot be read"),
    "a Python object": (lambda c, m: "a: !!python/object/apply:os.mkdir [x]\n", "cannot be read"),
    "no schema": (lambda c, m: m.pop("schema") and None, "cannot be read"),
    "a target called ..": (lambda c, m: m["schema"]["variables"][0].update(name=".."), "is called '..'"),
    "no model": (lambda c, m: c["fitted"].clear(), "has no fitted model"),
}


@pytest.mark.parametrize("command", ["a\nb", "python -m experiments.forecast; touch x", "touch x", 3])
def test_a_damaged_run_does_not_have_its_own_words_pasted(fitted, new, tmp_path, command):
    """The command that a refusal prints is one of ours, of which a shell makes no more than its words."""
    received = shutil.copytree(runs_of(fitted[0], "forecast")[0], tmp_path / "received")
    manifest = json.loads((received / "manifest.json").read_text()) | {"command": command}
    (received / "manifest.json").write_text(json.dumps(manifest))
    told, _ = new(f"run={received}")
    assert told.code == 1
    assert told.err[-1].startswith("error: ")
    assert "touch" not in told.err[-1]


@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_a_run_that_was_edited_is_refused_in_one_line(edited, edit):
    change, complaint = EDITS[edit]
    assert complaint in edited(change)


def test_a_run_says_nothing_of_trackers_hosts_or_launchers(fitted, new, tmp_path):
    """What a run keeps beside its models and its map of columns is not even looked at."""
    saved = runs_of(fitted[0], "forecast")[0]
    received = shutil.copytree(saved, tmp_path / "received")
    tree = yaml.safe_load((saved / "config.yaml").read_text())
    evil = {"_target_": "os.mkdir", "path": str(tmp_path / "called")}
    tree |= {"tracking": evil, "hosts": evil, "mesh": evil, "hydra": {"callbacks": {"x": evil}}, "trust": ["os"]}
    (received / "config.yaml").write_text(yaml.dump(tree, sort_keys=False, Dumper=Plain))
    seal(received)
    told, _ = new(f"run={received}")
    assert told.code == 0, told.err
    assert not (tmp_path / "called").exists()


def test_a_run_that_did_not_finish_is_refused(fitted, new, tmp_path):
    saved = runs_of(fitted[0], "forecast")[0]
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.yaml").write_text((saved / "config.yaml").read_text())
    (tmp_path / "half" / "manifest.json").write_text('{"command": "python -m experiments.forecast model=gru"}')
    told, _ = new(f"run={tmp_path}/half")
    assert told.code == 1
    assert "has no digests of its files: it has not finished" in told.err[-1]
    assert told.err[-1].endswith("give its command again: python -m experiments.forecast model=gru")


def folders(tmp_path):
    return sorted(path.name for path in (tmp_path / "runs" / "predict").iterdir())


def test_a_finished_prediction_is_shown_and_not_made_again(new, tmp_path, monkeypatch):
    first, table = new("ahead=[1]")
    [run] = (tmp_path / "runs" / "predict").iterdir()
    assert json.loads((run / "status.json").read_text())["state"] == "finished"
    monkeypatch.setattr(module, "answers", lambda *_, **__: pytest.fail("it was made again"))
    again, same = new("ahead=[1]")
    assert (again.code, again.out) == (0, first.out)
    pd.testing.assert_frame_equal(table, same)


def test_a_prediction_that_was_killed_is_made_whole_by_the_same_command(new, tmp_path, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "copy_ledger", die)
        told, _ = new("ahead=[1]")
        assert told.code == 130
    [run] = (tmp_path / "runs" / "predict").iterdir()
    assert "finished" not in json.loads((run / "manifest.json").read_text())
    told, table = new("ahead=[1]")
    assert told.code == 0
    assert [path.name for path in (tmp_path / "runs" / "predict").iterdir()] == [run.name]
    assert json.loads((run / "status.json").read_text())["state"] == "finished"
    assert len(table) == 6


def test_one_process_at_a_time_makes_a_prediction(new, tmp_path, monkeypatch):
    new("ahead=[1]")
    [run] = (tmp_path / "runs" / "predict").iterdir()
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["finished"]
    (run / "manifest.json").write_text(json.dumps(manifest))
    with lock_folder(run):
        told, _ = new("ahead=[1]")
    assert told.code == 1
    assert "another process is writing to" in told.err[-1]


def test_a_prediction_is_found_by_its_model_its_cohort_and_what_is_asked(fitted, new, tmp_path):
    new("ahead=[1]")
    [first] = folders(tmp_path)
    copy = tmp_path / "moved"
    shutil.copytree(runs_of(fitted[0], "forecast")[0], copy)
    new("ahead=[1.0]", f"run={copy}", "data.targets=[score]", f"data.store={tmp_path}/elsewhere")
    assert folders(tmp_path) == [first], "where things lie is no part of it"
    arrays = next(copy.rglob("arrays.npz"))
    with np.load(arrays) as held:
        changed = {name: held[name] * 1.01 if held[name].dtype == np.float32 else held[name] for name in held.files}
    np.savez(arrays, **changed)
    seal(copy)
    new("ahead=[1]", f"run={copy}")
    new("ahead=[2]")
    new("ahead=[1]", "+future.age=200")
    (tmp_path / "new.csv").write_text("who,when,years\nq,0,81\n")
    new("ahead=[1]", f"data.store={tmp_path}/one")
    assert len(folders(tmp_path)) == 5


def test_a_subject_whose_id_is_a_number_keeps_it(new, tmp_path):
    (tmp_path / "new.csv").write_text("who,when,years\n007,0,80\nNA,0,70\n")
    told, _ = new("ahead=[1]", f"data.store={tmp_path}/spies", "data.reader.missing=[]")
    assert told.code == 0, told.err
    assert {line.split()[0] for line in told.out.splitlines()[2:-1]} == {"007", "NA"}


@pytest.fixture
def plain(fitted, tmp_path, monkeypatch):
    """Predict with nothing but the run and the new patients' file, which has none of the columns of targets."""
    monkeypatch.chdir(tmp_path)
    saved = runs_of(fitted[0], "forecast")[0]

    def command(text: str, *arguments: str, file: str = "new.csv"):
        (tmp_path / file).write_text(text)
        told = call("predict", f"run={saved}", f"data.path={file}", f"runs={tmp_path}/runs", "ahead=[1]", *arguments)
        table = told.out.splitlines()[-1].removeprefix("forecasts: ") if not told.code else None
        return told, table and pd.read_csv(table, dtype={"subject": str})

    return command


FIRST, SECOND = "id,number,time,age\np,1,0,71\np,2,1.5,72.5\n", "id,number,time,age\nq,1,0,80\n"


def test_a_run_and_a_file_are_enough_and_each_file_has_its_own_patients(plain, fitted):
    told, first = plain(FIRST)
    assert told.code == 0, told.err
    assert set(first["subject"]) == {"p"}
    assert dict(zip(first["target"], first["units"], strict=True)) == {"score": "points", "stage": "probability"}
    assert "ahead: years" in told.out
    assert "origin: the subject's last visit" in told.out
    _, second = plain(SECOND)  # another file of the same name
    assert set(second["subject"]) == {"q"}
    _, again = plain(FIRST, file="moved.csv")
    pd.testing.assert_frame_equal(again, first)


def test_a_store_of_other_patients_is_refused(plain, fitted):
    store = f"data.store={fitted[0]}/store"  # of the training subjects
    told, _ = plain(FIRST, store)
    assert told.code == 1
    assert "was made from other files: visits.csv" in told.err[-1]
    assert plain(FIRST, "data.store=mine")[0].code == 0
    told, _ = plain(SECOND, "data.store=mine")
    assert told.code == 1
    assert "where data.path has new.csv" in told.err[-1]


def test_a_column_that_the_model_reads_must_be_there_but_may_have_another_name_or_be_empty(plain):
    text = FIRST.replace("age", "years")
    told, _ = plain(text)
    assert told.code == 1
    assert "variable 'age': column 'age' is unknown" in told.err[-1]
    told, _ = plain(text, "+data.reader.variables.age.column=years")
    assert told.code == 0, told.err
    told, _ = plain("id,number,time,age,score\np,1,0,,3\n")
    assert told.code == 0, told.err
    assert any("age (column 'age') has no value for any of 1 subjects" in line for line in told.err)
