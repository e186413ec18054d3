"""The learning curve on disk: whole lines, none twice, whatever ended the run before."""

import json

import pytest

from framework.launch import progress
from framework.launch.progress import Sweep, Training


def row(step: int) -> dict:
    return {"member": 0, "step": step, "of": 9, "train": 0.5, "validation": 0.4, "seconds": 1.0}


def rows(file) -> list[tuple[str, int]]:
    return [(told["model"], told["step"]) for told in map(json.loads, file.read_text().splitlines())]


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "metrics.jsonl"
    for model, steps in (("slope", [1, 2]), ("gru", [1, 2, 3, 4])):
        with Training(model, file) as log:
            for step in steps:
                log(row(step))
    return file


def test_a_run_that_goes_on_drops_what_came_after_its_checkpoint(file):
    with Training("gru", file) as log:
        for step in (3, 4, 5):
            log(row(step))
    assert rows(file) == [("slope", 1), ("slope", 2), *(("gru", step) for step in range(1, 6))]


def test_a_line_cut_short_is_dropped(file):
    file.write_text(file.read_text()[:-10])
    with Training("gru", file):
        pass
    assert rows(file)[-1] == ("gru", 3)
    with Training("lstm", file) as log:
        log(row(1))
    assert rows(file)[-2:] == [("gru", 3), ("lstm", 1)]


def test_a_row_is_on_disk_once_it_is_told(file):
    with Training("gru", file) as log:
        log(row(5))
        assert rows(file)[-1] == ("gru", 5)


def test_within_a_sweep_there_is_one_bar_and_it_tells_of_those_under_way(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", -1.0)
    with Sweep(3) as sweep, Training("gru", tmp_path / "metrics.jsonl", sweep.doing) as log:
        log(row(5))
        sweep(0.25)
        sweep(ValueError("no number"))
    assert capsys.readouterr().err.splitlines() == [
        "sweep: 0 of 3 jobs, 0 failed; gru: step 5 of at most 9, train 0.500, validation 0.400",
        "sweep: 1 of 3 jobs, 0 failed, best 0.25; gru: step 5 of at most 9, train 0.500, validation 0.400",
        "sweep: 2 of 3 jobs, 1 failed, best 0.25; gru: step 5 of at most 9, train 0.500, validation 0.400",
    ]


def test_what_is_no_number_is_not_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", -1.0)
    with Training("ridge", tmp_path / "metrics.jsonl") as log:
        log(row(1) | {"train": float("nan")})
    assert capsys.readouterr().err == "ridge: step 1 of at most 9, validation 0.400\n"
