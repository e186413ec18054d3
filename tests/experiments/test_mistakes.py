"""Each mistake ends in one line and exit code 1, with nothing half-written left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.experiments.conftest import rows, study, whole_or_absent, write_table

ROOT = Path(__file__).parents[2]


def one_line(told, folder: Path, complaint: str, store: bool) -> None:
    assert told.code == 1
    assert told.out == ""
    assert [line for line in told.err if line.startswith("error: ")] == told.err[-1:], told.err
    assert complaint in told.err[-1]
    assert len(told.err) <= 2, "before it at most the line that a cohort is brought in"
    assert not (folder / "runs").exists()
    assert (folder / "store").exists() is store
    assert whole_or_absent(folder / "store")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["forecast", "training.optimizer.learnin_rate=1"], "did you mean 'training.optimizer.learning_rate'?"),
        (["forecast", "training.steps=many"], "training.steps: got 'many'; expected int"),
        (["forecast", "training.dropout=1.5"], "training.dropout is 1.5"),
        (["forecast", "resamples=1"], "expected 100 or more"),
        (["forecast", "data.targets=score"], "expected Sequence[str]"),
        (["forecast", "data.path=nowhere.csv"], "nothing at nowhere.csv"),
        (["forecast", "data.path=package:no_such_package/table.csv"], "is not installed"),
        (["forecast", "data.reader.subject=patient"], "column 'patient' is unknown"),
        (["forecast", "model=gruu"], "Could not find 'model/gruu'"),
        (["forecast", "model._target_=numpy.load"], "is outside ['framework']"),
        (["forecast", "model.width=0"], "expected 1 or more"),
        (["compare", "models=[gru,gruu]"], "no model or head is called 'gruu'; did you mean 'gru'?"),
        (["compare", "models=gru"], "expected Sequence[str]"),
        (["compare", "repeats=0"], "expected 1 or more"),
        (["compare", "+model_overrides.lstm=[training.steps\\=3]"], "model_overrides names 'lstm', which is not in models"),
        (["compare", "+model_overrides.gru=[training.stepz\\=3]"], "no key 'training.stepz'"),
        (["predict"], "no value for 'run'"),
        (["predict", "run=nowhere"], "no run at nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_what_can_be_known_is_told_before_a_cohort_is_brought_in(run, tmp_path, arguments, complaint):
    one_line(run(*arguments), tmp_path, complaint, store=False)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["data.targets=[socre]"], "target 'socre' is not in the cohort; it has ['score', 'stage', 'age', 'onset']"),
        (["data.targets=[onset]"], "hindsight"),
        (["data.targets=[]"], "no target is named"),
        (["data.targets=[score,score]"], "names one twice"),
        (["data.hidden=[x]"], "hidden variable 'x'"),
        (["task=never"], "expected one of ['future_visits', 'next_visit', 'current_visit', 'unlabelled']"),
        (["task=current_visit"], "hide it with data.hidden=['score', 'stage']"),
        (["split.fold=3"], "expected 0 to 2"),
        (["split.folds=99"], "12 subjects cannot make 99 folds"),
        (["split.validation=1.0"], "expected a share from 0 to below 1"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_only_the_cohort_can_tell_leaves_it_whole_and_no_run(run, tmp_path, arguments, complaint):
    one_line(run("forecast", *arguments), tmp_path, complaint, store=True)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda lines: [*lines, lines[0]], "s00"),  # a visit twice
        (lambda lines: [lines[1].replace(",2,", ",1,", 1), lines[0].replace(",1,", ",2,", 1), *lines[2:]], "s00"),  # numbered against time
        (lambda lines: [line + ",7" if line is lines[4] else line for line in lines], "line 6 has 8 cells; expected 7"),
        (lambda lines: [lines[0].replace("well", "fine").replace("ill", "fine"), *lines[1:]], "none of its levels"),
        (lambda lines: [], "no subject can be used"),
    ],
    ids=["visit twice", "out of order", "broken line", "unknown level", "empty"],
)  # fmt: skip
def test_a_table_that_is_wrong_names_what_and_leaves_nothing(run, tmp_path, change, complaint):
    write_table(tmp_path / "visits.csv", change(rows()))
    one_line(run("forecast"), tmp_path, complaint, store=False)


def test_a_file_that_is_no_table_leaves_nothing(run, tmp_path):
    (tmp_path / "visits.csv").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    one_line(run("forecast"), tmp_path, "visits.csv is no UTF-8 table", store=False)


def test_one_visit_each_is_no_course(run, tmp_path):
    write_table(tmp_path / "visits.csv", rows(visits=1))
    one_line(run("forecast"), tmp_path, "forecasting needs two visits or more", store=True)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (["s00,0", "s00,1"], "subject 's00' is in two folds"),
        (["s00,0", "s01,1"], "no fold for subject 's02'"),
        (None, "nothing at"),
    ],
    ids=["in two folds", "in none", "no file"],
)
def test_folds_of_ones_own_that_are_wrong(run, tmp_path, lines, complaint):
    if lines:
        (tmp_path / "folds.csv").write_text("\n".join(["subject,fold", *lines]) + "\n")
    arguments = ["split=file", f"split.path={tmp_path}/folds.csv"]
    one_line(run("forecast", *arguments, folds=None), tmp_path, complaint, store=True)


def test_a_place_for_runs_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    told = run("forecast", "model=last_visit", f"runs={tmp_path}/file")
    one_line(told, tmp_path, "choose another place with runs=", store=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="to root no folder is read-only")
def test_a_read_only_place_for_runs(run, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    told = run("forecast", "model=last_visit", f"runs={tmp_path}/locked")
    one_line(told, tmp_path, "choose another place with runs=", store=True)
    assert not list((tmp_path / "locked").iterdir())


def test_so_it_is_in_a_process_of_its_own(tmp_path):
    write_table(tmp_path / "visits.csv", [*rows(), rows()[0]])
    command = [
        sys.executable,
        "-m",
        "experiments.forecast",
        *study(tmp_path),
        f"runs={tmp_path}/runs",
        "data.targets=[score]",
    ]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert told.stdout == ""
    assert len(told.stderr.splitlines()) == 2
    assert told.stderr.splitlines()[-1].startswith("error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["visits.csv"]
