"""What data may lack, and the one answer that every kind of forecaster gives to it.

In the cohort one class is seen of test subjects alone, one variable of nobody; one subject has nothing but the times of
its visits, one has a single visit.
"""

import dataclasses

import jax
import numpy as np
import pytest

from framework.data.cohort.schema import Variable
from framework.data.queries.events import ThresholdReached
from framework.data.queries.examples import Examples
from framework.data.queries.layout import layout
from framework.data.splits.split import Split
from framework.errors import UserError
from framework.forecast.predict import answers
from framework.types import Number, Target
from tests.cohorts import table
from tests.contracts.recipes import forecaster

KEY = jax.random.key(0)
VARIABLES = (
    Variable("score", ("input", "target"), "points"),
    Variable("stage", ("input", "target"), levels=("low", "mid", "high"), ordered=True),
    Variable("never", ("input", "target"), "mL"),
    Variable("age", ("input", "future"), "years", per_year=1.0),
)
RISE = ThresholdReached(variable="stage", level="mid", horizons=(1.0, 2.0))
EMPTY, ONCE, SUBJECTS = 12, 13, 16
ROWS = np.arange(SUBJECTS)
SPLIT = Split(ROWS < 9, (ROWS >= 9) & (ROWS < 12), ROWS >= 12)
TARGETS = {"cox": ["rise"], "deep": ["score", "stage", "rise"], "progression": ["score", "stage", "rise"]}
# others take long to compile: make trials
LONG = ("slope", "ridge", "cox", "mixed_effects", "progression")
RECIPES = ["last_visit", "deep", *(pytest.param(name, marks=pytest.mark.long) for name in LONG)]


def visits(i: int) -> list[tuple[float, dict]]:
    if i == EMPTY:
        return [(0.0, {}), (1.0, {}), (2.0, {"score": 3.0})]
    known = [
        (float(j), {"score": i + j / 2, "stage": ("low", "high" if i > 13 else "mid")[j > i % 3], "age": 60.0 + i + j})
        for j in range(4)
    ]
    return known[:1] if i == ONCE else known


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    series = {f"s{i:02}": visits(i) for i in range(SUBJECTS)}
    return table(tmp_path_factory.mktemp("cohort") / "c", VARIABLES, series)


def study(cohort, targets: list[str]) -> Examples:
    events = {"rise": RISE} if "rise" in targets else {}
    return Examples(cohort, layout(cohort.schema, targets, (), events), events=events)


@pytest.fixture(scope="module", params=RECIPES)
def fitted(request, cohort):
    examples = study(cohort, TARGETS.get(request.param, ["score", "stage"]))
    return forecaster(request.param).fit(examples, SPLIT, KEY), examples


def ahead(examples: Examples):
    """What is asked of each subject two years after its last visit."""
    query = examples.eval_queries.query
    last = np.repeat(examples.cohort.valid.sum(1)[:, None] - 1, query.time.shape[1], axis=1)
    time = np.take_along_axis(examples.cohort.times, last, 1) + 2
    asked = dataclasses.replace(query, time=time, origin=last, valid=np.ones_like(query.valid))
    return dataclasses.replace(examples.eval_queries, query=asked)


def each(fitted, examples: Examples, questions) -> dict[str, tuple[Target, np.ndarray]]:
    told = answers(fitted, examples, range(SUBJECTS), questions)
    return {t.name: (t, told[t.name]) for t in fitted.layout.targets}


def test_all_of_them_are_answered_though_nothing_or_one_visit_is_known(fitted):
    fitted, examples = fitted
    for questions in (examples.eval_queries, ahead(examples)):
        for target, told in each(fitted, examples, questions).values():
            valid = questions.query.valid
            assert np.isfinite(told[valid]).all()
            assert (told[valid] >= 0).all() or isinstance(target, Number)


def test_a_single_visit_asks_nothing_of_later_visits(cohort):
    query = study(cohort, ["score"]).eval_queries.query
    assert not query.valid[ONCE].any()
    assert query.valid[EMPTY].any()


def test_a_class_that_training_never_shows_is_unlikely_and_never_impossible(fitted):
    fitted, examples = fitted
    if "stage" not in {target.name for target in fitted.layout.targets}:
        pytest.skip("events have no classes")
    _, told = each(fitted, examples, examples.eval_queries)["stage"]
    first = told[:9][examples.eval_queries.query.valid[:9]]  # of training subjects
    np.testing.assert_allclose(first.sum(-1), 1, rtol=1e-5)
    assert (first > 0).all()
    assert first[:, 2].mean() < first[:, :2].mean()


@pytest.mark.parametrize("name", ["ridge", "deep", "mixed_effects", "progression"])
def test_a_target_that_training_never_shows_is_refused_by_name(cohort, name):
    values, observed = cohort.values.copy(), cohort.observed.copy()
    values[12:, :, 2], observed[12:, :, 2] = 1.0, cohort.valid[12:]  # of test subjects it is known
    known = dataclasses.replace(cohort, values=values, observed=observed)
    with pytest.raises(UserError, match=r"never (was observed of none of 9|is known of 0) training subjects"):
        forecaster(name).fit(study(known, ["score", "never"]), SPLIT, KEY)


def test_an_event_that_nobody_in_training_is_at_risk_of_is_refused_by_name(cohort):
    ill = np.zeros_like(cohort.values[:9, :, 1]) + 2
    values = np.concatenate([np.where(np.arange(4) == 1, ill[..., None], cohort.values[:9]), cohort.values[9:]])
    known = dataclasses.replace(cohort, values=values)
    with pytest.raises(UserError, match="rise was observed of none of 9 training subjects"):
        forecaster("deep").fit(study(known, ["rise"]), SPLIT, KEY)
    with pytest.raises(UserError, match="rise was observed of none of 9"):
        study(known, ["rise"]).check_trainable(SPLIT.train)  # what a run asks before any work
