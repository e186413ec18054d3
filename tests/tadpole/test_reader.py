"""TADPOLE's tables, with the quirks of their files."""

from dataclasses import replace

import jax
import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from framework.data.cohort.dates import dates, years
from framework.data.ingest import ingest
from framework.data.queries.examples import Examples
from framework.data.queries.layout import layout
from framework.data.splits.groups import first_values
from framework.data.splits.sites import ByGroup
from framework.errors import UserError
from framework.forecast.references import FittedLastVisit, LastVisit
from framework.tadpole.score import read_truth, score
from framework.tadpole.submission import submission
from tests.tadpole import tables as tadpole


def read(path, store, *more):
    with initialize_config_module("conf", version_base="1.3"):
        data = compose(
            "ingest", [f"data={'tadpole_leaderboard' if more else 'tadpole'}", f"data.path={path}", *more]
        ).data
    return ingest(instantiate(data.reader, _convert_="all"), str(store))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("tadpole")
    return made, tadpole.write(made)


@pytest.fixture(scope="module")
def cohort(folder):
    return read(folder[0] / "TADPOLE_D1_D2.csv", folder[0] / "store")


def test_every_visit_says_what_the_course_was(folder, cohort):
    assert len(cohort.subjects) == 24
    columns = {name: cohort.column(name) for name in ("diagnosis", "ADAS13", "Ventricles_ICV", "age")}
    when = dates(cohort)
    for i, subject in enumerate(cohort.subjects):
        c = folder[1][int(subject)]
        for j in np.flatnonzero(cohort.valid[i]):
            told = tadpole.numbers(c, cohort.times[i, j])
            assert cohort.values[i, j, columns["diagnosis"]] == tadpole.stage(c, cohort.times[i, j])
            assert cohort.values[i, j, columns["age"]] == pytest.approx(c["age"] + cohort.times[i, j])
            assert when[i, j] == pytest.approx(years(str(c["start"].date())) + cohort.times[i, j])
            if cohort.observed[i, j, columns["ADAS13"]]:
                assert cohort.values[i, j, columns["ADAS13"]] == pytest.approx(told["ADAS13"], abs=0.02)
            if cohort.observed[i, j, columns["Ventricles_ICV"]]:
                expected = told["Ventricles"] / c["icv"]
                assert cohort.values[i, j, columns["Ventricles_ICV"]] == pytest.approx(expected, rel=1e-3)
    hidden = [
        cohort.observed[..., cohort.column(name)][cohort.valid].mean() for name in ("Ventricles_ICV", "Hippocampus_ICV")
    ]
    assert all(0.4 < share < 0.95 for share in hidden), "blank and -4 are missing"


def test_rows_of_one_day_are_one_visit(folder, cohort):
    assert cohort.visits[cohort.subjects.index("2")][0] == "bl"
    ledger = (folder[0] / "store" / "ledger.csv").read_text()
    assert '2,nv,visit,excluded,"the same day as bl, which takes what it lacks from it"' in ledger


def test_whom_d2_asks_about_can_be_the_tested_fold(folder, cohort):
    _, _, has = first_values(cohort, "D2")
    assert has.all()
    split = ByGroup("D2", None, 0.1, 1, 0).one(cohort)
    assert {int(cohort.subjects[row]) for row in np.flatnonzero(split.test)} == {
        rid for rid, c in folder[1].items() if c["rollover"]
    }


def test_d3_is_everybodys_last_visit_and_everybody_is_asked_about(folder):
    last = read(folder[0] / "TADPOLE_D3.csv", folder[0] / "d3")
    assert last.valid.sum() == len(last.subjects) == 24
    assert set(last.subjects) == {str(rid) for rid in folder[1]}
    assert first_values(last, "D2")[1].min() == 1


@pytest.fixture(scope="module")
def board(folder):
    path = folder[0]
    return read(path / "TADPOLE_D1_D2.csv", path / "board", f"data.leaderboard={path}/TADPOLE_LB1_LB2.csv")


def test_the_leaderboard_asks_lb2_about_what_came_after_it(folder, board):
    with initialize_config_module("conf", version_base="1.3"):
        config = compose(
            "forecast", ["data=tadpole", "data.path=x", "split=tadpole_leaderboard", "origins=tadpole_leaderboard"]
        )
    splitter, origins = instantiate(config.split), instantiate(config.origins)
    split, when, past = splitter.one(board), dates(board), splitter.known(board)
    early = when < years("2012-01-01")
    rollover = np.array([folder[1][int(subject)]["rollover"] for subject in board.subjects])
    assert split.test.any()
    assert rollover[split.test].all()
    assert not rollover[split.train | split.validation].any()
    np.testing.assert_array_equal(past.valid, board.valid & early)
    shape = layout(board.schema, ["ADAS13"])
    asked = Examples(board, shape, origins=origins, about=splitter.asks(board)).eval_queries
    row, q = np.nonzero(asked.query.valid)
    assert len(row)
    assert (when[row, asked.visit[row, q]] >= years("2012-01-01")).all()
    assert early[row, asked.query.origin[row, q]].all()
    assert not early[row, asked.query.origin[row, q] + 1].any(), "the last of LB2"
    assert set(row) <= set(np.flatnonzero(split.test))
    assert "leaderboard" not in [column.name for column in shape.inputs]


def test_the_forecasts_of_a_floor_are_a_submission_that_d4_scores(folder, cohort):
    shape = layout(cohort.schema, ["diagnosis", "ADAS13", "Ventricles_ICV"])
    split = ByGroup("D2", None, 0.1, 1, 0).one(cohort)
    fitted = LastVisit(True).fit(Examples(cohort, shape), split, jax.random.key(0))
    table, beyond = submission(fitted, cohort, shape, "2018-01")
    assert list(beyond) == ["RID", "Forecast Month", "beyond_follow_up"]
    assert not beyond["beyond_follow_up"].any()  # the floor by itself keeps no follow-up
    _, beyond = submission(Followed(fitted.layout, fitted.learnt), cohort, shape, "2018-01")
    assert 0 < beyond["beyond_follow_up"].sum() < len(beyond)
    assert set(table["RID"]) == {rid for rid, c in folder[1].items() if c["rollover"]}
    assert table["Forecast Date"].iloc[[0, 59]].tolist() == ["2018-01", "2022-12"]
    found = score(table, read_truth(folder[0] / "TADPOLE_D4.csv"), resamples=20)
    assert 0 < found["ADAS13 MAE"]["value"] < 30
    assert 0 < found["Ventricles_ICV MAE"]["value"] < 0.02
    assert found["mAUC"]["value"] > 0.5
    with pytest.raises(UserError, match="a TADPOLE submission needs"):
        submission(fitted, cohort, layout(cohort.schema, ["ADAS13"]), "2018-01")


class Followed(FittedLastVisit):
    """A floor that was trained on three years of follow-up."""

    follow_up = 3.0


def test_the_leaderboards_submission_knows_lb2_alone_and_lb4_scores_it(folder, board, tmp_path):
    shape, early = layout(board.schema, ["diagnosis", "ADAS13", "Ventricles_ICV"]), dates(board) < years("2012-01-01")
    fitted = LastVisit(False).fit(Examples(board, shape), ByGroup("D2", None, 0.1, 1, 0).one(board), jax.random.key(0))
    table, _ = submission(fitted, board, shape, "2010-05")
    seen = np.flatnonzero([folder[1][int(subject)]["rollover"] for subject in board.subjects] & early[:, 0])
    assert sorted(set(table["RID"])) == sorted(int(board.subjects[row]) for row in seen)
    assert len(table) == 84 * len(seen)
    assert table["Forecast Date"].iloc[[0, 83]].tolist() == ["2010-05", "2017-04"]
    told = np.array([v.name in ("diagnosis", "ADAS13", "Ventricles_ICV", "MMSE") for v in board.schema.variables])
    later = (board.valid & ~early)[..., None] & told
    assert later[seen].any()
    other = replace(board, values=np.where(later, 0, board.values), observed=board.observed & ~later)
    pd.testing.assert_frame_equal(submission(fitted, other, shape, "2010-05")[0], table)
    known = pd.DataFrame({"RID": table["RID"].unique(), "CognitiveAssessmentDate": "2013-03-04", "Diagnosis": "MCI"})
    known = known.assign(ADAS13=20.0, ScanDate="2013-03-04", Ventricles=0.03, LB4=1)
    strangers = known.assign(RID=9999, LB4=0)  # of whom no forecast is asked
    pd.concat([known, strangers]).to_csv(tmp_path / "TADPOLE_LB4.csv", index=False)
    found = score(table, read_truth(tmp_path / "TADPOLE_LB4.csv"), resamples=5)
    assert found["ADAS13 MAE"]["value"] == pytest.approx(
        (table[table["Forecast Date"] == "2013-03"]["ADAS13"] - 20).abs().mean()
    )


def test_nobody_to_forecast_is_one_line(board):
    shape = layout(board.schema, ["diagnosis", "ADAS13", "Ventricles_ICV"])
    fitted = LastVisit(False).fit(Examples(board, shape), ByGroup("D2", None, 0.1, 1, 0).one(board), jax.random.key(0))
    place = board.column("leaderboard")
    nobody = replace(board, observed=board.observed & (np.arange(board.observed.shape[2]) != place))
    with pytest.raises(UserError, match="no visit is in LB2"):
        submission(fitted, nobody, shape, "2010-05")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"DXCHANGE": 12}, "DXCHANGE is no code"),
        ({"DX": "NL to LMCI", "DXCHANGE": ""}, "DX ends in none"),
        ({"RID": "x"}, "is no whole number"),
    ],
)
def test_what_no_table_of_the_challenge_says_is_one_line(folder, tmp_path, change, complaint):
    table = pd.read_csv(folder[0] / "TADPOLE_D1_D2.csv", dtype=str, keep_default_na=False).head(3).astype(object)
    for name, value in change.items():
        table.loc[1, name] = value
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UserError, match=complaint) as told:
        read(tmp_path / "t.csv", tmp_path / "store")
    assert "\n" not in str(told.value)
