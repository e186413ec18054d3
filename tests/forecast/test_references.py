"""The floors against closed forms on a cohort spelt out, and against the numbers known for OASIS-2."""

import jax
import numpy as np
import pytest
from scipy.stats import rankdata

from framework.data.cohort.schema import Variable
from framework.data.queries.examples import Examples
from framework.data.queries.layout import layout
from framework.data.splits.split import KFold, Split
from framework.errors import UserError
from framework.forecast.fit_request import FitRequest
from framework.forecast.predict import answers
from framework.forecast.references import SMEAR, LastVisit
from framework.types import LEVELS
from tests.cohorts import oasis2, table

KEY = jax.random.key(0)
POINT = len(LEVELS)  # behind the quantiles
VARIABLES = (
    Variable("score", ("input", "target"), "points"),
    Variable("stage", ("input", "target"), levels=("low", "mid", "high"), ordered=True),
    Variable("type", ("input", "target"), levels=("x", "y", "z")),
    Variable("volume", ("target",), "mL"),
)
SERIES = {
    "a": [(0.0, {"score": 10.0, "stage": "low", "type": "x", "volume": 5.0}), (2.0, {"score": 6.0, "volume": 4.0})],
    "b": [
        (0.0, {"score": 10.0, "stage": "mid", "type": "y"}),
        (1.0, {"stage": "high"}),
        (3.0, {"score": 7.0, "volume": 2.0}),
    ],
    "c": [
        (0.0, {"score": 8.0, "stage": "high", "type": "z", "volume": 9.0}),
        (1.0, {}),
        (1.5, {"score": 8.0, "volume": 9.0}),
    ],
    "d": [(0.0, {}), (1.0, {"score": 1.0, "stage": "mid", "type": "y", "volume": 1.0})],
}
TRAIN = np.array([True, True, False, False])
NAMES = tuple(variable.name for variable in VARIABLES)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return table(tmp_path_factory.mktemp("cohort") / "c", VARIABLES, SERIES)


def fitted(cohort, trend: bool = False, hidden=(), task="future_visits"):
    examples = Examples(cohort, layout(cohort.schema, NAMES, hidden), task)
    split = Split(TRAIN, np.zeros(4, bool), ~TRAIN)
    return LastVisit(trend).fit(examples, split, KEY), examples


def told(one, examples, target: str) -> dict[tuple, np.ndarray]:
    """(subject, origin, years) -> the forecast."""
    numbers, query = answers(one, examples, range(4), examples.eval_queries)[target], examples.eval_queries.query
    return {
        (examples.subjects[i], int(query.origin[i, j]), float(query.time[i, j])): numbers[i, j]
        for i, j in np.argwhere(query.valid)
    }


def test_the_point_forecast_is_the_last_observed_value(cohort):
    found = {asked: float(numbers[POINT]) for asked, numbers in told(*fitted(cohort), "score").items()}
    prior = np.median([10, 6, 10, 7])  # of all training observations, for one never observed
    assert found == {
        ("a", 0, 2): 10,
        ("b", 0, 1): 10,
        ("b", 0, 3): 10,
        ("b", 1, 3): 10,
        ("c", 0, 1): 8,
        ("c", 0, 1.5): 8,
        ("c", 1, 1.5): 8,
        ("d", 0, 1): prior,
    }


def test_the_slope_is_least_squares_through_the_last_observation(cohort):
    """Training pairs are (years, change): (2, -4) of a, (3, -3) of b from each of its first two visits."""
    years, change = np.array([2, 3, 3]), np.array([-4, -3, -3])
    slope = np.linalg.lstsq(years[:, None], change, rcond=None)[0][0]
    found = told(*fitted(cohort, trend=True), "score")
    assert found["c", 0, 1.5][POINT] == pytest.approx(8 + 1.5 * slope, rel=1e-5)
    assert found["c", 1, 1.5][POINT] == pytest.approx(8 + 1.5 * slope, rel=1e-5), "years count from the observation"
    assert found["d", 0, 1][POINT] == pytest.approx(np.median([10, 6, 10, 7]), rel=1e-5)


def test_quantiles_are_those_of_training_errors_around_the_median_yearly_change(cohort):
    """Yearly changes are -2 over two years and twice -1 over three: their median, weighted by years, is -1."""
    errors = np.array([-2.0, 0.0, 0.0])  # of the changes -4, -3, -3
    around = np.where(np.array(LEVELS) < 0.5, np.minimum(np.quantile(errors, LEVELS), 0), 0)
    for trend in (False, True):
        found = told(*fitted(cohort, trend), "score")["c", 0, 1.5][:POINT]
        np.testing.assert_allclose(found, 8 - 1.5 + around, rtol=1e-6)


def test_classes_are_the_last_level_smeared_to_its_neighbours(cohort):
    def shares(*distances: int) -> np.ndarray:
        share = SMEAR ** np.array(distances, float)
        return share / share.sum()

    stage, kind = (told(*fitted(cohort), name) for name in ("stage", "type"))
    np.testing.assert_allclose(stage["b", 0, 3], shares(1, 0, 1), rtol=1e-6)
    np.testing.assert_allclose(stage["b", 1, 3], shares(2, 1, 0), rtol=1e-6)
    np.testing.assert_allclose(kind["c", 0, 1], shares(1, 1, 0), rtol=1e-6)  # no order: all others are alike
    never = np.array([1, 1, 1]) + 1.0  # what the training subjects were seen at, and one of each
    np.testing.assert_allclose(stage["d", 0, 1], never / never.sum(), rtol=1e-6)


def test_the_score_of_a_class_does_not_depend_on_the_fold(cohort):
    """So that forecasts of different folds can be ranked together."""
    one, examples = fitted(cohort)
    other = LastVisit(False).fit(examples, Split(~TRAIN, np.zeros(4, bool), TRAIN), KEY)
    np.testing.assert_array_equal(told(one, examples, "stage")["b", 1, 3], told(other, examples, "stage")["b", 1, 3])


def test_it_reads_a_target_that_is_hidden_from_others(cohort):
    found = told(*fitted(cohort, hidden=("score",)), "volume")
    assert found["c", 0, 1.5][POINT] == 9
    assert told(*fitted(cohort, hidden=("score",)), "score")["a", 0, 2][POINT] == 10


def test_asked_about_a_visit_it_does_not_read_the_answer_from_it(cohort):
    found = told(*fitted(cohort, hidden=NAMES, task="current_visit"), "score")
    prior = float(np.median([10, 6, 10, 7]))
    assert {asked: float(numbers[POINT]) for asked, numbers in found.items()} == {
        ("a", 0, 0): prior,
        ("a", 1, 2): 10,
        ("b", 0, 0): prior,
        ("b", 1, 1): 10,
        ("b", 2, 3): 10,
        ("c", 0, 0): prior,
        ("c", 1, 1): 8,
        ("c", 2, 1.5): 8,
        ("d", 0, 0): prior,
        ("d", 1, 1): prior,
    }


def test_it_is_saved_whole_and_absence_is_one_line(cohort, tmp_path):
    one, examples = fitted(cohort, trend=True)
    one.save(tmp_path / "model")
    again = LastVisit(True).load(tmp_path / "model", examples.layout)
    assert again.learnt == one.learnt
    with pytest.raises(UserError, match="no fitted model at"):
        LastVisit(True).load(tmp_path / "elsewhere", examples.layout)


@pytest.fixture(scope="module")
def tested():
    """For both floors, every forecast of a subject by the fold that held it out."""
    examples = oasis2()
    splits = KFold(10, 0.15, 0, 0).splits(examples.cohort)
    found = {}
    for trend in (False, True):
        members = LastVisit(trend).fit_many(FitRequest(examples, splits, jax.random.split(KEY, 10)))
        for member, split in zip(members, splits, strict=True):
            rows = np.flatnonzero(split.test)
            for name, numbers in answers(member, examples, rows, examples.eval_queries).items():
                whole = found.setdefault((name, trend), np.zeros((150, *numbers.shape[1:])))
                whole[rows] = numbers
    return examples, found


def mean_error(tested, name: str, trend: bool) -> float:
    examples, found = tested
    truth = examples.eval_queries.truth[name]
    return float(np.abs(found[name, trend][..., POINT] - truth.value)[truth.observed].mean())


def test_oasis2_last_visit(tested):
    assert mean_error(tested, "MMSE", False) == pytest.approx(1.506, abs=5e-4)
    assert mean_error(tested, "nWBV", False) == pytest.approx(0.0128, abs=5e-5)


def test_oasis2_slope(tested):
    assert mean_error(tested, "nWBV", True) == pytest.approx(0.0083, abs=5e-5)


def test_oasis2_demented_or_not(tested):
    """The area under the curve as the share of pairs in the right order (Mann & Whitney 1947)."""
    examples, found = tested
    truth = examples.eval_queries.truth["CDR"]
    positive = truth.value[truth.observed] >= 1
    rank = rankdata(found["CDR", False][truth.observed][:, 1:].sum(-1))[positive].sum()
    n, m = positive.sum(), (~positive).sum()
    assert (rank - n * (n + 1) / 2) / (n * m) == pytest.approx(0.903, abs=5e-4)


def test_nor_does_it_learn_from_the_answer_at_times_that_no_float32_holds(tmp_path):
    """Everyone loses four points in 0.7 years: asked about each visit, that is the change since the visit before."""
    series = {name: [(0.0, {"score": 10.0}), (0.7, {"score": 6.0})] for name in "abcd"}
    cohort = table(tmp_path / "c", VARIABLES[:1], series)
    examples = Examples(cohort, layout(cohort.schema, ["score"], ["score"]), "current_visit")
    learnt = LastVisit(False).fit(examples, Split(TRAIN, np.zeros(4, bool), ~TRAIN), KEY).learnt["score"]
    assert learnt.median_slope == pytest.approx(-4 / 0.7)
    np.testing.assert_allclose(learnt.spread, 0, atol=1e-9)
