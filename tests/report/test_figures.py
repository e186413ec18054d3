from dataclasses import replace

import jax
import numpy as np
import pytest

from framework.evaluate import leaderboard as board
from framework.evaluate import outcomes
from framework.evaluate.inference.bca_interval import Spread
from framework.evaluate.inference.bootstrap import draw
from framework.evaluate.leaderboard import Difference, Row
from framework.report import finished_run as runs
from framework.report import spread
from framework.report.exhibits import (
    calibration,
    comparison,
    horizon,
    metric_tables,
    selected_hyperparameters,
    survival,
    trajectories,
)
from framework.report.svg import COLOURS, NEUTRALS, pens
from framework.types import Event


@pytest.fixture(scope="module")
def study(study_folder):
    return outcomes.read(study_folder)


def test_means_are_those_of_a_plain_loop():
    rng = np.random.default_rng(1)
    values, weights, subject = (
        rng.normal(size=(30, 3)),
        rng.integers(0, 3, (30, 3)).astype(float),
        rng.integers(0, 9, 30),
    )
    weights[:, 2] = 0
    subject[subject == 4] = 5  # a subject without a query is never drawn
    subject[0] = 10  # and subject 9 has none
    fold = np.zeros((1, 30), int)
    value, low, high = spread.Resampling(400, 3).means(values, weights, subject, 11, fold)
    assert np.allclose(value[:2], [np.average(values[:, k], weights=weights[:, k]) for k in range(2)])

    def of(c):
        return np.average(values[:, 0], weights=weights[:, 0] * c[subject])

    drawn = [np.asarray(draw(jax.random.fold_in(jax.random.key(3), b), 11)) for b in range(400)]
    loop = Spread.of(value[0], np.array([of(c) for c in drawn]), np.array([of(1 - row) for row in np.eye(11)]))
    assert np.allclose([low[0], high[0]], loop.interval(), rtol=1e-4)
    assert np.isnan([value[2], low[2], high[2]]).all()
    apart = spread.Resampling(400, 3).means(values, weights, subject, 11, subject[None] % 3)
    assert np.allclose(apart[0], value, equal_nan=True)
    assert apart[2, 0] - apart[1, 0] > 1.2 * (high[0] - low[0])  # three folds share training subjects


def test_years_ahead_are_joined_where_they_are_few():
    ahead = np.array([0.5] * 12 + [1.5] * 3 + [2.5] * 9 + [3.2] * 20 + [6.1] * 4)
    assert horizon.edges(ahead) == [0, 1, 3, 7]
    assert horizon.edges(np.array([0.2, 0.4])) == [0, 1]
    assert horizon.edges(np.array([2.0] * 30)) == [0, 2]


def test_errors(study):
    mmse, cdr, _ = study
    assert np.allclose(horizon.error(mmse, "slope"), np.abs(mmse.forecasts["slope"][..., 2] - mmse.truth))
    forecast = cdr.forecasts["slope"]
    expected = [[-np.log(f[i, int(t)]) for i, t in enumerate(cdr.truth)] for f in forecast]
    assert np.allclose(horizon.error(cdr, "slope"), expected)


def test_perfect_quantiles_lie_on_the_diagonal(study):
    one = study[0]
    levels = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    uniform = (np.arange(len(one.truth)) + 0.5) / len(one.truth)
    ideal = replace(one, truth=uniform, forecasts={"m": np.broadcast_to(levels, (5, len(uniform), 5))})
    assert np.allclose(calibration.below(ideal, "m").mean(0), levels, atol=0.01)
    tied = replace(one, forecasts={"m": np.broadcast_to(one.truth[:, None], (5, len(uniform), 5))})
    assert (calibration.below(tied, "m") == 0.5).all()


def test_the_event_is_at_or_above_the_level(study):
    given, came, what = calibration.probability(study[1], "slope")
    assert np.allclose(given, 1 - study[1].forecasts["slope"][..., 0])
    assert np.array_equal(came[0], study[1].truth >= 1)
    assert what == "CDR ≥ 0.5"


def test_examples_are_those_the_rule_names(study):
    for one in study:
        chosen = {example.reason: example for example in trajectories.choose(one, "cnn_gru")}
        assert len(chosen) == len({example.subject for example in chosen.values()}) == trajectories.COUNT
        error = {e.subject: horizon.error(one, "cnn_gru")[0, e.queries].mean() for e in chosen.values()}
        assert min(error, key=error.get) == chosen["smallest error"].subject
        assert max(error, key=error.get) == chosen["largest error"].subject
        for example in chosen.values():
            assert len(example.queries) > 1
            assert len(set(one.origin[example.queries])) == 1
            assert (np.diff(one.time[example.queries]) > 0).all()


def test_each_model_has_its_own_pen():
    models = ["last", *(f"m{i}" for i in range(len(COLOURS)))]
    drawn = pens(models, ["last"])
    assert len({pen.colour for pen in drawn.values()}) == len({pen.light for pen in drawn.values()}) == len(models)
    assert (drawn["last"].light, drawn["last"].dark) == NEUTRALS[0]
    assert drawn["m0"].light == COLOURS[0][0]


def luminance(colour: str) -> float:
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return float(np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


def test_colours_stand_out_by_day_and_by_night():
    for light, dark in (*COLOURS, *NEUTRALS):
        assert (luminance("#fdfcfa") + 0.05) / (luminance(light) + 0.05) > 3
        assert (luminance(dark) + 0.05) / (luminance("#16181c") + 0.05) > 3


def row(model: str, value: float, **differences: Difference) -> Row:
    return Row(model, "MMSE", "MAE", "lower", "points", value, value - 1, value + 1, 0, 9, 3, "a", differences)


def test_words_claim_no_more_than_the_intervals():
    floor = row("last", 3.0)
    unsure = row("deep", 2.5, last=Difference(-0.5, -1.2, 0.2, 0.3, None))
    assert "deep is not statistically distinguishable" in comparison.sentence([floor, unsure], ["last"]).replace(
        "It", "deep"
    )
    sure = row("deep", 2.5, last=Difference(-0.5, -0.8, -0.2, 0.01, 0.0312))
    assert "It differs from last: -0.50 [-0.80, -0.20]" in comparison.sentence([floor, sure], ["last"])
    worse = row("deep", 4.0, last=Difference(1.0, 0.2, 1.4, 0.01, None))
    assert "No model surpasses this reference" in comparison.sentence([floor, worse], ["last"])


def test_the_table_marks_best_and_zero(study_folder):
    rows, _ = board.read(study_folder)
    mae = [r for r in rows if (r.target, r.metric) == ("MMSE", "MAE")]
    table = metric_tables.metrics("MMSE", [mae], ["last_visit", "slope"])
    assert [row[1].text for row in table.rows] == [r.model for r in sorted(mae, key=lambda r: r.rank)]
    assert [row[2].mark for row in table.rows] == ["best", "", ""]
    assert [len(row) for row in table.rows] == [8, 8, 8]
    assert {row[1].text: row[6].text == "" for row in table.rows} == {
        "last_visit": True,
        "slope": False,
        "cnn_gru": False,
    }
    assert table.rows[0][4].text == "1 [1, 1]"
    assert table.data["value"].tolist() == [r.value for r in mae]
    assert table.data["value difference to slope"].notna().tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (7.0, 7.04, "came at 7.0 y"),
        (6.9, 7.0, "came between 6.9 and 7.0 y"),
        (7.0, np.inf, "had not come by 7.0 y"),
    ],
)
def test_the_end_of_an_interval_is_named_once(low, high, text):
    assert survival._describe_end(low, high) == text


def test_choices_are_counted(study_folder):
    rows = [[cell.text for cell in row] for row in selected_hyperparameters.table(runs.read(study_folder).chosen).rows]
    assert rows == [
        ["cnn_gru", "MMSE", "penalty 10, folds 5", "4 of 6"],
        ["cnn_gru", "MMSE", "penalty 3, folds 5", "2 of 6"],
        ["cnn_gru", "CDR", "the only one", "1 of 6"],
    ]


def test_the_leaderboard_has_every_target_and_its_ranks(study_folder):
    rows, _ = board.read(study_folder)
    heads = {
        target: [r for r in rows if r.target == target and r.metric == metric]
        for target, metric in (("MMSE", "MAE"), ("CDR", "AUC"))
    }
    table = metric_tables.overall(heads)
    assert list(table.head) == ["Model", "MMSE: MAE ↓", "Rank", "Group", "CDR: AUC ↑", "Rank", "Group"]
    assert table.rows[0][0].text == "cnn_gru"
    old = {target: [replace(r, rank=None) for r in some] for target, some in heads.items()}
    assert list(metric_tables.overall(old).head) == ["Model", "MMSE: MAE ↓", "Group", "CDR: AUC ↑", "Group"]
    part = {"MMSE": heads["MMSE"], "CDR": heads["CDR"][:1]}
    assert metric_tables.overall(part).rows[0][0].text == "last_visit"  # who answers more stands first
    assert metric_tables.overall(part).rows[1][4].text == "–"


def test_a_score_has_one_interval_wherever_it_stands(study):
    """The error by horizon, where one bin holds all, is the leaderboard's, and so are survival's errors."""
    one, how = study[0], spread.Resampling(150, 4)
    mmse = replace(one, time=one.origin_time + 0.5, forecasts={"slope": one.forecasts["slope"]})
    (row,) = (row for row in board.leaderboard([mmse], [], 150, 4) if row.metric == "MAE")
    found = horizon.horizons(mmse, how).errors["slope"][:, 0]
    np.testing.assert_allclose(found, [row.value, row.low, row.high], rtol=2e-4)
    until = np.where(mmse.truth > np.median(mmse.truth), np.inf, 1.0)
    event = replace(
        mmse,
        target=Event("e", (1.5,)),
        truth=np.stack([np.where(until < 2, 1.0, 2.0), until], 1),
        forecasts={"m": np.random.default_rng(0).uniform(size=(5, len(until), 1))},
    )
    (row,) = (row for row in board.leaderboard([event], [], 150, 4) if row.metric == "integrated Brier")
    found = survival.horizons(event, how).errors["m"][:, 0]
    np.testing.assert_allclose(found, [row.value, row.low, row.high], rtol=2e-4)
    came = survival.thirds(event, "m", how).came
    assert came.shape == (3, 3, 1)
    assert (came[1] <= came[0]).all()
    assert (came[0] <= came[2]).all()


def test_a_model_of_fewer_repeats_is_told_by_those(study):
    for one in study[:2]:
        some = replace(one, forecasts={m: told[:1] if m == "cnn_gru" else told for m, told in one.forecasts.items()})
        alone = replace(one, forecasts={"cnn_gru": one.forecasts["cnn_gru"][:1]}, fold=one.fold[:1])
        how = spread.Resampling(100)
        errors = horizon.horizons(some, how).errors
        assert np.array_equal(errors["cnn_gru"], horizon.horizons(alone, how).errors["cnn_gru"])
        assert np.array_equal(errors["slope"], horizon.horizons(one, how).errors["slope"])
        table, own = (calibration.table(x, how).data for x in (some, alone))
        assert table[table["model"] == "cnn_gru"].reset_index(drop=True).equals(own)
