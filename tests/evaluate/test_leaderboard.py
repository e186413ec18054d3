from dataclasses import replace

import numpy as np
import pytest

from framework.errors import UserError
from framework.evaluate import leaderboard as board
from framework.evaluate.metrics.registry import metrics_for
from framework.evaluate.terminal_table import abbreviations, as_text, bracketed, number


@pytest.fixture(scope="module")
def rows(study):
    return board.leaderboard(study(), ["last_visit", "slope"], resamples=300, seed=1)


def test_there_is_a_row_for_each_metric_and_model(study, rows):
    expected = [(o.target.name, m.name, model) for o in study() for m in metrics_for(o.target) for model in o.forecasts]
    assert [(row.target, row.metric, row.model) for row in rows] == expected
    assert {row.pairs for row in rows} == {len(study()[0].truth)}
    assert {row.subjects for row in rows} == {40}


def test_every_interval_holds_its_estimate(rows):
    for one in (*rows, *(difference for row in rows for difference in row.differences.values())):
        assert one.low <= one.value <= one.high, one


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
    assert {(row.comparable, row.reason) for row in auc} == {(0, "all outcomes are alike")}
    assert "CDR: 243 forecasts of 40 subjects; AUC compares 0 pairs, each within a fold" in as_text(rows)
    assert "AUC is not estimable: all outcomes are alike" in as_text(rows)
    assert "–*" not in as_text(rows)


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
    assert "difference to last_visit" in text


def test_text_has_models_in_the_order_of_their_ranks_and_a_legend(rows):
    text = as_text(rows)
    lines = text.partition("MMSE: ")[2].splitlines()
    heads = [place for place, line in enumerate(lines) if line.split()[:1] == ["model"]]
    names = {row.model for row in rows}
    ranked = [
        r.model for r in sorted((r for r in rows if (r.target, r.metric) == ("MMSE", "MAE")), key=lambda r: r.rank)
    ]
    for head in heads[:2]:
        assert [line.split()[0] for line in lines[head + 2 : head + 2 + len(names)]] == ranked
    assert "group" in lines[heads[0]]
    assert "* the best value of a metric; intervals are 95% intervals over subjects" in text
    assert "group: models that share a letter are not statistically distinguishable" in text


def test_letters_that_stand_for_a_metric_are_explained():
    assert [text.split(",")[0] for text in abbreviations(["MAE", "ADAS13 WES", "CPA"])] == [
        "WES: weighted error score",
        "CPA: coverage probability accuracy",
    ]
    assert abbreviations(["MAE", "AUC"]) == []


def test_zero_has_no_minus():
    assert number(-0.0004, 3) == "0.000"
    assert number(-0.0006, 3) == "-0.001"
    assert bracketed(board.Estimate(-0.0001, -0.2, 0.0), 2, "+") == "+0.00 [-0.20, +0.00]"


def test_a_ranking_without_two_forecasts_of_one_fold_is_not_estimable(study, tmp_path):
    one = study()[1]
    first = np.unique(one.subject, return_index=True)[1]  # a forecast a subject, a subject a fold
    columns = ("subject", "origin", "origin_time", "time", "truth")
    alone = replace(
        one,
        fold=np.tile(np.arange(len(first)), (5, 1)),
        forecasts={model: told[:, first] for model, told in one.forecasts.items()},
        **{name: getattr(one, name)[first] for name in columns},
    )
    rows = board.leaderboard([alone], ["slope"], resamples=20)
    board.write(rows, 20, tmp_path)
    assert board.read(tmp_path)[0] == rows
    said = {row.metric: (row.value, row.comparable, row.reason) for row in rows if row.model == "slope"}
    for metric in ("AUC", "AUPRC"):
        assert said[metric] == (None, 0, "no fold has both outcomes, 0.0 and 0.5 or beyond")
    assert said["Brier"][0] > 0
    assert said["Brier"][1:] == (None, None)
    text = as_text(rows)
    assert "AUC is not estimable: no fold has both outcomes" in text
    assert "nan" not in text
