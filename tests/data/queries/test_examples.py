"""Queries and answers, counted by hand on a cohort small enough to do so."""

import dataclasses

import numpy as np
import pytest

from framework.data.cohort.schema import Variable
from framework.data.queries.examples import Examples, known_at
from framework.data.queries.layout import layout
from framework.errors import UserError
from tests.cohorts import oasis2, table

VARIABLES = (
    Variable("score", ("input", "target"), "points"),
    Variable("volume", ("target",), "mL"),
    Variable("age", ("input", "future"), "years", per_year=1.0),
    Variable("treated", ("input", "future")),
)
SERIES = {
    "a": [
        (0.0, {"score": 30.0, "volume": 5.0, "age": 70.0, "treated": 0.0}),
        (1.0, {"volume": 4.0}),
        (3.0, {"score": 26.0, "volume": 3.0, "age": 999.0, "treated": 1.0}),
    ],
    "b": [(0.0, {"score": 20.0}), (2.5, {"score": 19.0, "age": 62.0})],
    "c": [(0.0, {"score": 10.0, "volume": 9.0})],
}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return table(tmp_path_factory.mktemp("cohort") / "c", VARIABLES, SERIES)


def examples(cohort, *targets: str, hidden: tuple[str, ...] = (), task: str = "future_visits") -> Examples:
    return Examples(cohort, layout(cohort.schema, targets, hidden), task)


def told(examples: Examples, questions, target: str) -> set[tuple]:
    """(subject, origin, years, answer or None) of every question."""
    query, truth = questions.query, questions.truth[target]
    return {
        (
            examples.subjects[i],
            int(query.origin[i, j]),
            float(query.time[i, j]),
            float(truth.value[i, j]) if truth.observed[i, j] else None,
        )
        for i, j in np.argwhere(query.valid)
    }


def test_later_is_every_later_visit_from_every_visit_before_it(cohort):
    one = examples(cohort, "score", "volume")
    assert told(one, one.eval_queries, "score") == {
        ("a", 0, 1, None),
        ("a", 0, 3, 26),
        ("a", 1, 3, 26),
        ("b", 0, 2.5, 19),
    }
    assert told(one, one.eval_queries, "volume") == {
        ("a", 0, 1, 4),
        ("a", 0, 3, 3),
        ("a", 1, 3, 3),
        ("b", 0, 2.5, None),
    }


def test_next_is_each_visit_from_the_one_before_it(cohort):
    one = examples(cohort, "score", task="next_visit")
    assert told(one, one.eval_queries, "score") == {("a", 0, 1, None), ("a", 1, 3, 26), ("b", 0, 2.5, 19)}
    assert told(one, one.train_queries, "score") == told(one, one.eval_queries, "score")


def test_what_is_no_question_has_no_answer(cohort):
    one = examples(cohort, "score")
    for truth in one.eval_queries.truth.values():
        assert not truth.observed[~one.eval_queries.query.valid].any()
        assert not truth.value[~truth.observed].any()


def test_now_is_each_visit_from_its_own_inputs(cohort):
    one = examples(cohort, "volume", task="current_visit")
    everything = {
        ("a", 0, 0, 5),
        ("a", 1, 1, 4),
        ("a", 2, 3, 3),
        ("b", 0, 0, None),
        ("b", 1, 2.5, None),
        ("c", 0, 0, 9),
    }
    assert told(one, one.eval_queries, "volume") == everything


def test_now_hides_its_answer_or_refuses(cohort):
    with pytest.raises(UserError, match=r"data.hidden=\['score'\]"):
        examples(cohort, "score", "volume", task="current_visit")
    one = examples(cohort, "score", "volume", hidden=("score",), task="current_visit")
    assert [column.name for column in one.layout.inputs] == ["age", "treated"]
    assert ("c", 0, 0, 10) in told(one, one.eval_queries, "score")


def test_taught_adds_the_present_state_of_hidden_targets_alone(cohort):
    one = examples(cohort, "score", "volume")
    later, taught = told(one, one.eval_queries, "volume"), told(one, one.train_queries, "volume")
    assert taught - later == {
        ("a", 0, 0, 5),
        ("a", 1, 1, 4),
        ("a", 2, 3, 3),
        ("b", 0, 0, None),
        ("b", 1, 2.5, None),
        ("c", 0, 0, 9),
    }
    assert later <= taught
    answered = {row for row in told(one, one.train_queries, "score") if row[-1] is not None}
    assert answered == {row for row in told(one, one.eval_queries, "score") if row[-1] is not None}, (
        "inputs hold the answer"
    )
    alone = examples(cohort, "score")
    assert told(alone, alone.train_queries, "score") == told(alone, alone.eval_queries, "score")


def known(examples: Examples, name: str) -> dict[tuple, float]:
    query = examples.eval_queries.query
    place = [column.name for column in examples.layout.known].index(name)
    return {
        (examples.subjects[i], int(query.origin[i, j]), float(query.time[i, j])): float(query.known[i, j, place])
        for i, j in np.argwhere(query.valid)
    }


def test_known_ahead_advances_from_the_history_and_is_never_read_from_the_future(cohort):
    assert known(examples(cohort, "score"), "age") == {
        ("a", 0, 1): 71,
        ("a", 0, 3): 73,  # whatever stands there at that visit
        ("a", 1, 3): 73,  # unobserved at the origin: advanced from the visit before
        ("b", 0, 2.5): 0,  # never observed so far
    }


def test_what_is_planned_is_read_at_the_visit_asked_about(cohort):
    assert known(examples(cohort, "score"), "treated") == {
        ("a", 0, 1): 0,
        ("a", 0, 3): 1,
        ("a", 1, 3): 1,
        ("b", 0, 2.5): 0,
    }


def test_beyond_the_record_a_plan_keeps_its_last_value(cohort):
    shape = layout(cohort.schema, ["score"])
    last = np.array([[2], [1], [0]])
    time = np.take_along_axis(cohort.times, last, 1) + 2
    known, there = known_at(cohort, shape, last, time)
    age, treated = (known[:, 0, k] for k in range(2))
    np.testing.assert_array_equal(there[:, 0], [[True, True], [True, False], [False, False]])
    np.testing.assert_array_equal(age, [999 + 2, 62 + 2, 0])
    np.testing.assert_array_equal(treated, [1, 0, 0])


def test_noise_in_the_future_changes_no_question(cohort):
    """Everything but what is planned: queries are functions of the visit times and of the history."""
    one = examples(cohort, "score")
    for origin in range(2):
        later = (np.arange(3) > origin)[None, :, None]
        treated = np.arange(4) == 3
        noisy = dataclasses.replace(
            cohort,
            values=np.where(later & ~treated, 7.0, cohort.values),
            observed=np.where(later & ~treated, ~cohort.observed, cohort.observed),
        )
        again = examples(noisy, "score").eval_queries.query
        asks = (one.eval_queries.query.origin == origin) & one.eval_queries.query.valid
        np.testing.assert_array_equal(again.known[asks], one.eval_queries.query.known[asks])


def test_a_plan_is_no_answer_and_a_target_is_asked_once(cohort):
    with pytest.raises(UserError, match=r"hide it with data.hidden=\['treated'\]"):
        examples(cohort, "score", "treated")
    assert examples(cohort, "treated", hidden=("treated",)).eval_queries.query.known.shape[-1] == 1
    assert examples(cohort, "age").layout.targets[0].seen, "what advances by itself is told from the history"
    with pytest.raises(UserError, match="names one twice"):
        examples(cohort, "score", "volume", "score")


@pytest.mark.parametrize("task", ["later", "", "FUTURE_VISITS"])
def test_an_unknown_task_is_refused(cohort, task):
    with pytest.raises(UserError, match="expected one of"):
        examples(cohort, "score", task=task)


def test_one_visit_each_leaves_nothing_to_forecast_but_much_to_recognise(tmp_path):
    cohort = table(tmp_path / "c", VARIABLES, {name: visits[:1] for name, visits in SERIES.items()})
    with pytest.raises(UserError, match="two visits or more"):
        examples(cohort, "score")
    assert examples(cohort, "volume", task="current_visit").eval_queries.query.valid.sum() == 3


def test_oasis2_has_the_pairs_that_are_known():
    one = oasis2()
    assert one.eval_queries.query.valid.sum() == 317
    assert {name: int(truth.observed.sum()) for name, truth in one.eval_queries.truth.items()}["MMSE"] == 314
    assert (len(one.subjects), one.cohort.valid.sum()) == (150, 373)
