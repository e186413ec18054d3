"""What is planned enters through the query: it changes the forecast, and nothing else after the origin does."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from framework.data.batches.batch import Loader
from framework.data.cohort.schema import Variable
from framework.data.queries.events import ThresholdReached
from framework.data.queries.examples import Examples
from framework.data.queries.layout import layout
from framework.forecast.predict import numbers
from framework.nn.model import Model
from tests.cohorts import table
from tests.contracts.forecaster_laws import KEYS, SPLITS, another_future, asked, told
from tests.contracts.recipes import forecaster, head, names, network

VARIABLES = (
    Variable("score", ("input", "target"), "points"),
    Variable("stage", ("input", "target"), levels=("low", "mid", "high"), ordered=True),
    Variable("arm", ("input", "future"), levels=("placebo", "drug")),
    Variable("age", ("input", "future"), "years", per_year=1.0),
)
SCORE, STAGE, ARM, AGE = range(4)
RISE = ThresholdReached(variable="stage", level="high", horizons=(1.0, 2.0))


def visit(i: int, j: int) -> dict:
    stage = ("low", "mid", "high")[min(j, i % 3)]
    return {"score": float(i + j), "stage": stage, "arm": ("placebo", "drug")[i % 2], "age": 60.0 + i + j}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Examples:
    series = {f"s{i}": [(float(j), visit(i, j)) for j in range(2 + i % 3)] for i in range(6)}
    cohort = table(tmp_path_factory.mktemp("cohort") / "c", VARIABLES, series)
    shape = layout(cohort.schema, ["score", "stage", "rise"], (), {"rise": RISE})
    return Examples(cohort, shape, events={"rise": RISE})


def rewritten(study: Examples, column: int, after: int) -> Examples:
    """The cohort with other values of one variable at the visits after number `after`."""
    values = study.cohort.values.copy()
    values[:, after + 1 :, column] = 1 - (values[:, after + 1 :, column] > 0)
    return dataclasses.replace(study, cohort=dataclasses.replace(study.cohort, values=values))


def test_a_query_holds_the_plan_and_nothing_else_of_what_comes(study):
    here, asks = study.eval_queries.query, study.eval_queries.query.valid & (study.eval_queries.query.origin == 0)
    later = asks & (study.eval_queries.visit > 0)
    for column in (SCORE, STAGE, AGE):
        np.testing.assert_array_equal(rewritten(study, column, 0).eval_queries.query.known[asks], here.known[asks])
    planned = rewritten(study, ARM, 0).eval_queries.query.known
    assert [column.name for column in study.layout.known] == ["arm", "age"]
    assert (planned[later][:, 0] != here.known[later][:, 0]).all()
    np.testing.assert_array_equal(planned[..., 1], here.known[..., 1])
    assert (planned[asks & ~later] == here.known[asks & ~later]).all(), "an event is told by the plan of its origin"


@pytest.mark.parametrize("name", names("model/head"))
def test_every_head_answers_what_if(study, name):
    """Another plan is another forecast of every target; other visits after the origin are none, the plan's included."""
    loader = Loader(study)
    batch = loader.batch(range(6), loader.size(6, range(6)), study.train_queries)
    graph, state = nnx.split(nnx.jit(lambda: Model(study.layout, network(None, head(name, 8), 16), rngs=nnx.Rngs(0)))())
    rng = np.random.default_rng(0)
    state = jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape).astype(np.float32), state)

    @jax.jit
    def told(visits, query):
        model = nnx.merge(graph, state)
        return {name: numbers(answer) for name, answer in model.forecast(model(visits, query)).items()}

    origin = np.take_along_axis(np.asarray(batch.visits.times), np.asarray(batch.query.origin), 1)
    query = dataclasses.replace(batch.query, time=(origin + 1.5).astype(np.float32))
    before, asks = told(batch.visits, query), batch.query.valid & (batch.query.origin == 0)
    other = np.array(query.known)
    other[..., 0] = 1 - other[..., 0]
    after = told(batch.visits, dataclasses.replace(query, known=other))
    future = told(another_future(batch.visits, 0), query)
    for target, answer in before.items():
        assert not np.array_equal(after[target][asks], answer[asks]), target
        np.testing.assert_array_equal(future[target][asks], answer[asks])


@pytest.fixture(scope="module")
def planless(tmp_path_factory) -> Examples:
    """A plan that is 0 (placebo) for some, 1 (drug) for others and was recorded of nobody else; so for a dose."""
    variables = (
        Variable("score", ("input", "target"), "points"),
        Variable("arm", ("input", "future"), levels=("placebo", "drug")),
        Variable("dose", ("input", "future"), "mg"),
    )
    rng = np.random.default_rng(0)

    def of(i: int, j: int) -> dict:
        plan = {"arm": ("placebo", "drug", None)[i % 3], "dose": (0.0, 5.0, None)[i % 3]}
        return {"score": (1.0, 3.0, -2.0)[i % 3] * j + rng.normal(), **plan}

    series = {f"s{i:02}": [(float(j), of(i, j)) for j in range(3)] for i in range(12)}
    cohort = table(tmp_path_factory.mktemp("cohort") / "c", variables, series)
    return Examples(cohort, layout(cohort.schema, ["score"]))


def test_a_plan_that_was_never_recorded_is_masked_and_a_plan_of_level_0_is_not(planless):
    query = planless.eval_queries.query
    for i in range(12):
        assert (query.future_observed[i][query.valid[i]] == (i % 3 < 2)).all()


PLANNERS = ("gru", "ridge", "mixed_effects", "progression")


@pytest.mark.parametrize("name", PLANNERS)
def test_a_level_of_0_is_a_plan_and_what_is_missing_is_none(planless, name):
    """Values under the mask never matter; placebo, a dose of 0 and a missing plan are three different questions."""
    fitted = forecaster(name).fit(planless, SPLITS[0], KEYS[0])
    batch = asked(fitted, planless)
    query, valid = batch.query, batch.query.valid

    def answer(known: float, there: bool) -> np.ndarray:
        planned = dataclasses.replace(
            query, known=np.full_like(query.known, known), future_observed=np.full_like(query.future_observed, there)
        )
        return told(fitted, dataclasses.replace(batch, query=planned))["score"][valid]

    missing = answer(0.0, False)
    for junk in (1.0, np.nan):
        np.testing.assert_array_equal(answer(junk, False), missing)
    assert not np.allclose(answer(0.0, True), missing)
    assert not np.allclose(answer(0.0, True), answer(1.0, True))
