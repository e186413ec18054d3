"""Protocols and their certificates, and the probes for leaks, from the command line."""

import json

import numpy as np
import pandas as pd
import pytest

from framework.evaluate import outcomes
from tests.experiments.conftest import rows, runner, runs_of, write_table

DATED = (
    "+data.reader.variables.seen={column: seen, roles: [date]}",
    "+data.reader.static.site={roles: [group], levels: [north, south, east]}",
)
FEW = ("resamples=100", "report=false")


@pytest.fixture
def dated(tmp_path):
    """The table with a site for each subject and a date for each visit, from 2001 on, a subject every three months."""
    lines = []
    for line in rows():
        subject, _, time, *_ = line.split(",")
        number = int(subject[1:])
        day = pd.Timestamp("2001-01-01") + pd.Timedelta(days=90 * number + 365.25 * float(time))
        lines.append(f"{line},{day.date()},{('north', 'south', 'east')[number % 3]}")
    write_table(tmp_path / "visits.csv", lines)
    path = tmp_path / "visits.csv"
    path.write_text(path.read_text().replace("age,onset\n", "age,onset,seen,site\n"))
    return runner(tmp_path)


def roles(folder) -> pd.DataFrame:
    return pd.read_csv(folder / "roles.csv", index_col="subject")


@pytest.mark.long
def test_a_site_is_tested_by_models_that_never_saw_it(dated, tmp_path):
    told = dated("compare", *DATED, *FEW, "models=[]", "repeats=1", "split=site", folds=None)
    assert told.code == 0, told.err
    folder = runs_of(tmp_path, "compare")[0]
    table = roles(folder)
    assert table.shape == (12, 3)
    for k in range(3):
        tested = table[table[f"repeat 0 fold {k}"] == "test"].index.to_list()
        assert {int(subject[1:]) % 3 for subject in tested} == {k}
    assert json.loads((folder / "certificate.json").read_text())["holds"]


@pytest.mark.long
def test_what_came_after_a_day_is_forecast_from_what_was_known_before(dated, tmp_path):
    day = ["split=temporal", "split.date=2003-01-01", "split.folds=2", "origins=date", "origins.date=2003-01-01"]
    told = dated("compare", *DATED, *FEW, "models=[]", "repeats=1", *day, folds=None)
    assert told.code == 0, told.err
    folder = runs_of(tmp_path, "compare")[0]
    made = json.loads((folder / "certificate.json").read_text())
    assert made["holds"]
    assert made["training_data"]["visits"] < made["training_data"]["of"]
    assert "the future" in {check["name"] for check in made["checks"]}
    table = roles(folder)
    assert set(table.loc["s11"]) == {"first came on or after 2003-01-01"}
    for one in outcomes.read(folder):
        start = {s: pd.Timestamp("2001-01-01") + pd.Timedelta(days=90 * int(s[1:])) for s in one.subjects}
        for subject, origin, time in zip(one.subject, one.origin_time, one.time, strict=True):
            first = start[one.subjects[subject]]
            assert first + pd.Timedelta(days=365.25 * float(origin)) < pd.Timestamp("2003-01-01")
            assert first + pd.Timedelta(days=365.25 * float(time) + 1) >= pd.Timestamp("2003-01-01")


def test_a_subject_under_two_ids_ends_a_run_and_a_probe_with_exit_code_1(tmp_path):
    lines = rows()
    write_table(tmp_path / "visits.csv", [*lines, *(f"t{line[1:]}" for line in lines if line.startswith("s0"))])
    run = runner(tmp_path)
    told = run("forecast", *FEW, "model=last_visit")
    assert told.code == 1
    assert "two ids" in told.err[-1]
    assert "certificate.json has failed checks" in told.err[-1]
    assert run("forecast", *FEW, "model=last_visit").code == 1, "nor does it when it is shown again"
    told = run("probe", "model=last_visit", "data.targets=[score,stage]", "split.folds=3")
    assert told.code == 1
    assert told.err[-1].startswith("error: 1 leak: two_ids: ")


def test_copies_whose_values_were_jittered_end_a_run_and_a_probe_with_exit_code_1(tmp_path):
    rng, lines = np.random.default_rng(0), rows(24)
    copies = [line.split(",") for line in lines if line.startswith("s0")]
    for cells in copies:
        cells[0], cells[3] = f"t{cells[0][1:]}", f"{float(cells[3]) + 0.02 * rng.normal():.2f}"
    write_table(tmp_path / "visits.csv", [*lines, *map(",".join, copies)])
    run = runner(tmp_path)
    told = run("forecast", *FEW, "model=last_visit")
    assert told.code == 1
    assert "near_duplicates: subjects in different roles" in told.err[-1]
    told = run("probe", "model=last_visit", "data.targets=[score]", "split.folds=3")
    assert told.code == 1
    assert told.err[-1].startswith("error: 1 leak: near_duplicates: ")


def test_the_probes_find_nothing_in_an_honest_study(run):
    told = run("probe", "model=slope", "data.targets=[score,stage]", "split.folds=3")
    assert (told.code, told.out) == (0, "no leak: neither test subjects nor the future reach the forecasts\n")
