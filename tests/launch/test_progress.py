"""The learning curve on disk: whole lines, none twice, whatever ended the run before."""

import json

import pytest

from framework.launch.progress import Training


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
