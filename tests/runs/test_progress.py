"""The learning curve on disk: whole lines, none twice, whatever ended the run before."""

import json
import threading

import pytest

from framework.errors import UserError
from framework.runs import progress
from framework.runs.progress import SweepProgress, TrainingProgress


def row(step: int) -> dict:
    return {"member": 0, "step": step, "of": 9, "train": 0.5, "validation": 0.4, "seconds": 1.0}


def rows(file) -> list[tuple[str, int]]:
    return [(told["model"], told["step"]) for told in map(json.loads, file.read_text().splitlines())]


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "metrics.jsonl"
    for model, steps in (("slope", [1, 2]), ("gru", [1, 2, 3, 4])):
        with TrainingProgress(model, file) as log:
            for step in steps:
                log(row(step))
    return file


def test_a_run_that_goes_on_drops_what_came_after_its_checkpoint(file):
    with TrainingProgress("gru", file) as log:
        for step in (3, 4, 5):
            log(row(step))
    assert rows(file) == [("slope", 1), ("slope", 2), *(("gru", step) for step in range(1, 6))]


def test_a_line_cut_short_is_dropped(file):
    file.write_text(file.read_text()[:-10])
    with TrainingProgress("gru", file):
        pass
    assert rows(file)[-1] == ("gru", 3)
    with TrainingProgress("lstm", file) as log:
        log(row(1))
    assert rows(file)[-2:] == [("gru", 3), ("lstm", 1)]


@pytest.mark.parametrize("damage", ["}{", '{"step": 1', "3"])
def test_a_damaged_line_is_one_line_of_error(file, damage):
    file.write_text(damage + "\n")
    with pytest.raises(UserError, match=r"metrics.jsonl is damaged .*; delete"), TrainingProgress("gru", file) as log:
        log(row(1))


def test_a_row_is_on_disk_once_it_is_told(file):
    with TrainingProgress("gru", file) as log:
        log(row(5))
        assert rows(file)[-1] == ("gru", 5)


def test_within_a_sweep_there_is_one_bar_and_it_tells_of_those_under_way(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_INTERVAL", -1.0)
    with SweepProgress(3) as sweep, TrainingProgress("gru", tmp_path / "metrics.jsonl", sweep.show_running) as log:
        log(row(5))
        sweep(0.25)
        sweep(ValueError("no number"))
    assert capsys.readouterr().err.splitlines() == [
        "sweep: 0 of 3 jobs, 0 failed; gru: step 5 of at most 9, train 0.500, validation 0.400",
        "sweep: 1 of 3 jobs, 0 failed, best 0.25; gru: step 5 of at most 9, train 0.500, validation 0.400",
        "sweep: 2 of 3 jobs, 1 failed, best 0.25; gru: step 5 of at most 9, train 0.500, validation 0.400",
    ]


def test_what_is_no_number_is_not_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_INTERVAL", -1.0)
    with TrainingProgress("ridge", tmp_path / "metrics.jsonl") as log:
        log(row(1) | {"train": float("nan")})
    assert capsys.readouterr().err == "ridge: step 1 of at most 9, validation 0.400\n"


def test_fits_that_take_long_say_how_far_they_are_and_how_long_they_may_take(tmp_path, capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with TrainingProgress("forest", tmp_path / "metrics.jsonl") as log:
        for now, news in ((5, None), (11, None), (40, 8), (45, None), (60, 16), (75, None), (76, None)):
            clock[0] = float(now)
            log({"member": 0, "done": news, "of": 41}) if news else log.repeat_news()
    assert capsys.readouterr().err.splitlines() == [
        "forest, 11 s so far",
        "forest: 8 of 41 fits, 40 s so far",
        "forest: 16 of 41 fits, 60 s so far, about 62 s to go",
        "forest: 16 of 41 fits, 75 s so far, about 48 s to go",
    ]
    assert (tmp_path / "metrics.jsonl").read_text() == "", "what is under way is no record"


def test_a_network_whose_round_takes_long_says_that_it_is_at_work(tmp_path, capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with TrainingProgress("gru", tmp_path / "metrics.jsonl") as log:
        log(row(5))
        clock[0] = 20.0
        log.repeat_news()
    assert capsys.readouterr().err == "gru: step 5 of at most 9, train 0.500, validation 0.400, 20 s so far\n"


def test_the_news_of_a_thread_of_its_own_needs_nobody_to_ask(tmp_path, monkeypatch):
    heard = threading.Event()
    monkeypatch.setattr(progress, "LINE_INTERVAL", -1.0)
    with TrainingProgress("forest", tmp_path / "metrics.jsonl", lambda told: heard.set()):
        assert heard.wait(60)
