"""What one stage behind all targets is worth where there is one, and what it answers where little is known."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy.special import expit

from framework.data.cohort.schema import Variable
from framework.data.queries.events import ThresholdReached
from framework.data.queries.examples import Examples
from framework.data.queries.layout import layout
from framework.data.splits.split import Split
from framework.errors import UserError
from framework.forecast.mixed.mixed_effects import MixedEffects
from framework.forecast.mixed.progression import DiseaseProgression
from framework.forecast.predict import answers
from framework.types import LEVELS
from tests.cohorts import table

KEY = jax.random.key(0)
RECIPE = DiseaseProgression(random_slopes=True, covariates=True, future_covariates=True, nodes=9, steps=100)
VARIABLES = (
    Variable("score", ("input", "target"), "points"),
    Variable("volume", ("input", "target"), "mL"),
    Variable("grade", ("input", "target"), levels=("none", "mild", "severe"), ordered=True),
    Variable("age", ("input", "future"), "years", per_year=1.0),
)
EVENTS = {"worse": ThresholdReached(variable="grade", level="severe", horizons=(1.0, 2.0))}
SUBJECTS = 80
TEST = np.arange(SUBJECTS) % 4 == 0
SPLIT = Split(~TEST, TEST & False, TEST)


def course(rng: np.random.Generator) -> list[tuple[float, dict]]:
    """A logistic course with a shift and a pace of its own; grades are cut from it, so that all targets tell of it."""
    shift, pace, level = rng.normal(0, 1.5), np.exp(rng.normal(-0.3, 0.6)), rng.normal(0, 3)
    times = np.append(0, np.cumsum(rng.uniform(0.4, 1.2, 5)))
    stage = shift + pace * times
    seen = np.digitize(stage + rng.normal(0, 0.3, 6), [-0.5, 2])
    return [
        (
            float(t),
            {
                "score": 30 - 12 * expit(s - 1) + rng.normal(0, 1),
                "volume": 50 + level + 10 * expit(s) + rng.normal(0, 0.5),
                "grade": ("none", "mild", "severe")[g],
                "age": 70.0 + t,
            },
        )
        for t, s, g in zip(times, stage, seen, strict=True)
    ]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    rng = np.random.default_rng(5)
    return table(tmp_path_factory.mktemp("c") / "c", VARIABLES, {f"s{i:02}": course(rng) for i in range(SUBJECTS)})


def study(cohort, *targets: str) -> Examples:
    events = {name: event for name, event in EVENTS.items() if name in targets}
    return Examples(cohort, layout(cohort.schema, list(targets), (), events), events=events)


@pytest.fixture(scope="module")
def joint(cohort):
    examples = study(cohort, "score", "volume", "grade", "worse")
    fitted = RECIPE.fit(examples, SPLIT, KEY)
    return examples, fitted, told_of(fitted, examples)


def told_of(fitted, examples: Examples) -> dict[str, np.ndarray]:
    return answers(fitted, examples, [*map(int, np.flatnonzero(TEST))], examples.eval_queries)


def judged(examples: Examples, told: dict[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    """The answers and truths of the test subjects' questions about a target, one by one."""
    truth = examples.eval_queries.truth[name]
    asks = (np.asarray(truth.observed) & examples.eval_queries.query.valid)[TEST]
    return told[name][asks], np.asarray(truth.value)[TEST][asks]


@pytest.mark.long
def test_what_all_targets_tell_of_one_stage_beats_each_by_itself(joint):
    examples, _, told = joint
    alone = study(examples.cohort, "score", "volume", "grade")
    other = told_of(MixedEffects(True, True, True).fit(alone, SPLIT, KEY), alone)
    for name in ("score", "volume"):
        (ours, truth), (theirs, same) = judged(examples, told, name), judged(alone, other, name)
        assert np.abs(ours[:, 2] - truth).mean() < 0.97 * np.abs(theirs[:, 2] - same).mean()
    losses = [
        -np.log(p[np.arange(len(y)), y.astype(int)]).mean()
        for p, y in (judged(examples, told, "grade"), judged(alone, other, "grade"))
    ]
    assert losses[0] < losses[1]


@pytest.mark.long
def test_quantiles_cover_as_often_as_they_say(joint):
    examples, _, told = joint
    for name in ("score", "volume"):
        quantiles, truth = judged(examples, told, name)
        np.testing.assert_allclose(
            (truth[:, None] <= quantiles[:, : len(LEVELS)]).mean(0), LEVELS, atol=0.15
        )  # twenty subjects


@pytest.mark.long
def test_an_event_is_told_by_the_course_of_what_is_measured(joint):
    """Of those at risk, who gets worse within the horizon is told apart by measured targets alone."""
    examples, _, told = joint
    truth = examples.eval_queries.truth["worse"]
    asks = np.asarray(truth.observed)[TEST]
    hi, lo = np.asarray(truth.hi)[TEST][asks], np.asarray(truth.lo)[TEST][asks]
    came, free = hi <= 1, lo >= 1
    at_one_year = told["worse"][asks][:, 0]
    pairs = at_one_year[came][:, None] < at_one_year[free]
    assert pairs.mean() > 0.8


@pytest.mark.long
def test_survival_is_1_at_the_origin(joint):
    examples, fitted, _ = joint
    now = dataclasses.replace(
        examples.eval_queries, query=dataclasses.replace(examples.eval_queries.query, time=_origins(examples))
    )
    told = answers(fitted, examples, range(SUBJECTS), now, curves=False)["worse"]
    assert (told[examples.eval_queries.query.valid] == 1).all()


def _origins(examples: Examples) -> np.ndarray:
    return np.take_along_axis(examples.cohort.times, np.asarray(examples.eval_queries.query.origin), 1)


def test_events_alone_are_refused(cohort):
    with pytest.raises(UserError, match="a progression model forecasts classes and numbers; for worse, an event"):
        RECIPE.fit(study(cohort, "worse"), SPLIT, KEY)


def test_a_target_of_too_few_is_refused(cohort):
    only = np.arange(SUBJECTS) < 1
    with pytest.raises(UserError, match="score is known of 1 training subjects; a progression model needs 2 or more"):
        RECIPE.fit(study(cohort, "score"), Split(only, only & False, ~only), KEY)


@pytest.mark.long
def test_levels_without_an_order_are_told_by_softmax(cohort):
    schema = cohort.schema
    loose = tuple(dataclasses.replace(v, ordered=False) if v.name == "grade" else v for v in schema.variables)
    other = dataclasses.replace(cohort, schema=dataclasses.replace(schema, variables=loose))
    examples = study(other, "grade")
    told = told_of(dataclasses.replace(RECIPE, random_slopes=False).fit(examples, SPLIT, KEY), examples)
    probs, level = judged(examples, told, "grade")
    often = np.bincount(level.astype(int), minlength=3) / len(level)
    loss = -np.log(probs[np.arange(len(level)), level.astype(int)]).mean()
    assert loss < 0.7 * -(often * np.log(often)).sum()


@pytest.mark.parametrize(("nodes", "steps"), [(2, 10), (5, 0)])
def test_too_few_nodes_or_steps_are_refused(nodes, steps):
    with pytest.raises(UserError, match=f"model.nodes={nodes}, model.steps={steps}; expected 3 nodes or more"):
        dataclasses.replace(RECIPE, nodes=nodes, steps=steps)
