from dataclasses import replace

import numpy as np
import pytest

from framework.errors import UserError
from framework.evaluate import leaderboard as board
from framework.evaluate.metrics import metrics_for
from framework.evaluate.text import as_text


@pytest.fixture(scope="module")
def rows(study):
    return board.leaderboard(study(), ["last_visit", "slope"], resamples=300, seed=1)


def test_there_is_a_row_for_each_metric_and_model(study, rows):
    expected = [(o.target.name, m.name, model) for o in study() for m in metrics_for(o.target) for model in o.forecasts]
    assert [(row.target, row.metric, row.model) for row in rows] == expected
    assert all(row.low <= row.value <= row.high for row in rows if row.metric == "MAE")
    assert {row.pairs for row in rows} == {len(study()[0].truth)}
    assert {row.subjects for row in rows} == {40}


def test_differences_are_paired(rows):
    by = {(row.target, row.metric, row.model): row for row in rows}
    deep, last = by["MMSE", "MAE", "cnn_gru"], by["MMSE", "MAE", "last_visit"]
    difference = deep.differences["last_visit"]
    assert np.isclose(difference.value, deep.value - last.value)
    assert difference.high - difference.low < deep.high - deep.low  # what both find hard cancels
    assert set(last.differences) == {"slope"}
    assert set(deep.differences) == {"last_visit", "slope"}


def test_equal_models_differ_by_nothing(study):
    one = study()[0]
    twin = replace(one, forecasts={"a": one.forecasts["slope"], "b": one.forecasts["slope"]})
    rows = board.leaderboard([twin], ["a"], resamples=100)
    found = [(row.metric, row.differences["a"], row.letters) for row in rows if row.model == "b"]
    for metric, difference, letters in found:
        assert difference == board.Difference(0.0, 0.0, 0.0, 1.0, 1.0 if metric == "MAE" else None), metric
        assert letters == "a"


def test_a_seed_is_a_result(study, rows):
    assert board.leaderboard(study(), ["last_visit", "slope"], resamples=300, seed=1) == rows
    assert board.leaderboard(study(), ["last_visit", "slope"], resamples=300, seed=2) != rows


def test_what_is_undefined_is_none(study):
    one = replace(study()[1], truth=np.zeros(len(study()[1].truth)))
    rows = board.leaderboard([one], ["slope"], resamples=20)
    auc = [row for row in rows if row.metric == "AUC"]
    assert all(row.value is None and row.low is None and row.undefined == 20 for row in auc)
    assert "–" in as_text(rows)


def test_reading_what_was_written(rows, tmp_path):
    board.write(rows, 300, tmp_path)
    assert board.read(tmp_path) == (rows, 300)


def test_an_unknown_floor(study):
    with pytest.raises(UserError, match="'sloep' answered no target"):
        board.leaderboard(study(), ["sloep"], resamples=10)


def test_text_marks_the_best(rows):
    text = as_text(rows)
    marked = [line for line in text.splitlines() if "* " in line and "[" in line]
    best = {
        t: min((r for r in rows if r.target == t and r.metric == m), key=lambda r: r.loss()).model
        for t, m in (("MMSE", "MAE"), ("CDR", "AUC"), ("nWBV", "MAE"))
    }
    assert [line.split()[0] for line in marked] == list(best.values())
    assert "MAE (points)" in text
    assert "against last_visit" in text
