"""TADPOLE's scores: hand-computed cases, its rules of matching, and what makes a submission none."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from framework.errors import UserError
from framework.tadpole.score import COLUMNS, bca, check, matched, mauc, read_submission, read_truth, score

RNG = np.random.default_rng(0)


def submitted(rid: int = 1, months: int = 60, **changes) -> pd.DataFrame:
    """Forecasts that say the month's number."""
    month = np.arange(1, months + 1)
    table = pd.DataFrame({name: month.astype(float) for name in COLUMNS})
    table["RID"], table["Forecast Month"] = rid, month
    table["Forecast Date"] = pd.date_range("2018-01-01", periods=months, freq="MS").strftime("%Y-%m")
    for name in ("ADAS13", "Ventricles_ICV"):
        table[f"{name} 50% CI lower"], table[f"{name} 50% CI upper"] = month - 1.0, month + 1.0
    return table.assign(**changes)


def known(**cells) -> pd.DataFrame:
    row = {"RID": 1, "CognitiveAssessmentDate": "2018-03-03", "Diagnosis": "CN", "ADAS13": 5.0}
    return pd.DataFrame([row | {"ScanDate": "2018-07-30", "Ventricles": 9.0} | cells])


def test_bca_of_the_challenges_own_example():
    assert bca(np.array([[69, 8, 9], [16, 61, 15], [2, 12, 18]])) == pytest.approx(0.763, abs=5e-4)
    assert bca(np.array([[5, 0, 0], [0, 0, 0], [0, 0, 0]])) == pytest.approx((0.75 + 0.75 + 0.75) / 3), (
        "½ where undefined"
    )


def test_mauc_of_two_classes_is_the_auc_and_of_three_the_mean_of_pairs():
    truth = RNG.integers(0, 2, 40)
    chance = np.round(RNG.random(40), 1)  # with ties
    assert mauc(np.stack([1 - chance, chance], 1), truth) == pytest.approx(roc_auc_score(truth, chance))
    truth, p = RNG.integers(0, 3, 60), RNG.dirichlet(np.ones(3), 60)
    assert mauc(p, truth) == pytest.approx(roc_auc_score(truth, p, multi_class="ovo", average="macro"))


def test_the_challenges_script_ranks_ties_by_their_rows():
    p = np.array([[0.5, 0.5], [0.5, 0.5]])
    assert mauc(p, np.array([0, 1])) == 0.5
    assert mauc(p, np.array([0, 1]), official_ties=True) == 0.5, "one way in one pair, the other in the other"
    three = np.array([[0.5, 0.2, 0.3]] * 2 + [[0.2, 0.2, 0.6]])
    assert mauc(three, np.array([0, 1, 2]), official_ties=True) != mauc(three, np.array([0, 1, 2]))


@pytest.mark.parametrize(
    ("day", "month"),
    [("2018-03-03", 3), ("2018-03-17", 4), ("2018-01-16 12:00", 1), ("2017-05-01", 1), ("2030-01-01", 60)],
)
def test_the_month_nearest_to_the_day_is_scored_and_the_earlier_of_two(day, month):
    (pair,) = matched(submitted(), known(CognitiveAssessmentDate=day)).to_dict("records")
    assert pair["ADAS13"] == month
    assert pair["Ventricles_ICV"] == 8, "by the scan's own date, 2018-07-30"
    (pair,) = matched(submitted(), known(CognitiveAssessmentDate=day, ScanDate=None)).to_dict("records")
    assert pair["Ventricles_ICV"] == month


def test_scores_by_hand():
    table = pd.concat([submitted(1), submitted(2), submitted(3)])
    table.loc[table["RID"] == 2, "ADAS13 50% CI upper"] += 2.0  # twice as wide
    truth = pd.concat([known(), known(RID=2, Diagnosis="MCI", ADAS13=4.0), known(RID=3, Diagnosis=None, ADAS13=None)])
    found = score(table, truth, resamples=10)
    errors, sure = np.array([2.0, 1.0]), np.array([1 / 2, 1 / 4])
    assert found["ADAS13 MAE"]["value"] == pytest.approx(1.5)
    assert found["ADAS13 WES"]["value"] == pytest.approx((errors * sure).sum() / sure.sum())
    assert found["ADAS13 CPA"]["value"] == pytest.approx(0.0), "one of two truths lies inside (2, 6) or (2, 4)"
    assert found["Ventricles_ICV MAE"]["value"] == pytest.approx(1.0)
    assert found["Ventricles_ICV CPA"]["value"] == pytest.approx(0.5), "9 is the end of (7, 9), and no end is inside"


def test_a_coverage_that_is_just_right_is_in_its_interval():
    """Half of 62 truths are covered, five subjects' 1 to 16 of them, and hardly any resample has just half."""
    visits = [(i, 5.0 if i == 5 else 3.0) for i, count in enumerate((1, 2, 4, 8, 16, 31)) for _ in range(count)]
    truth = pd.concat([known(RID=i, ADAS13=value, ScanDate=None) for i, value in visits])
    found = score(pd.concat([submitted(i) for i in range(6)]), truth, resamples=2000)["ADAS13 CPA"]
    assert found["low"] == found["value"] == 0
    assert found["high"] > 0.1


def test_intervals_hold_their_value_and_shrink_with_subjects():
    def width(count: int) -> float:
        rng = np.random.default_rng(1)
        table = pd.concat([submitted(i) for i in range(count)])
        rows = [
            known(RID=i, ADAS13=float(rng.normal(3, 2)), Diagnosis=rng.choice(["CN", "MCI", "AD"]))
            for i in range(count)
        ]
        one = score(table, pd.concat(rows), resamples=100)["ADAS13 MAE"]
        assert one["low"] <= one["value"] <= one["high"]
        assert one["low"] >= 0
        return one["high"] - one["low"]

    assert width(120) < width(8)


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (submitted().iloc[1:], "are not 1 to 59"),
        (submitted(ADAS13=np.nan), "no finite number"),
        (submitted().assign(**{"CN relative probability": -1.0}), "negative probabilities"),
        (submitted().assign(**{"ADAS13 50% CI lower": 99.0}), "interval of ADAS13"),
        (
            submitted().assign(**{"Ventricles_ICV 50% CI upper": submitted()["Ventricles_ICV 50% CI lower"]}),
            "interval of Ventricles",
        ),
    ],
)
def test_what_is_no_submission_is_one_line(broken, complaint):
    with pytest.raises(UserError, match=complaint) as told:
        check(broken, "mine.csv")
    assert "\n" not in str(told.value)


def test_files_are_checked(tmp_path):
    submitted()[list(COLUMNS[::-1])].to_csv(tmp_path / "s.csv", index=False)
    with pytest.raises(UserError, match="in this order"):
        read_submission(tmp_path / "s.csv")
    with pytest.raises(UserError, match="nothing at"):
        read_submission(tmp_path / "absent.csv")
    known(Diagnosis="LMCI").to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UserError, match="'LMCI'"):
        read_truth(tmp_path / "t.csv")
    with pytest.raises(UserError, match="1 rows of the truth, such as of RID 7"):
        matched(submitted(), known(RID=7))
