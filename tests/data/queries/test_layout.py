"""Roles become columns, and what must not be asked is refused."""

import pytest

from framework.data.queries.layout import layout, without
from framework.errors import UserError
from tests.cohorts import SCHEMA


def names(columns):
    return [column.name for column in columns]


def test_roles_become_columns_at_their_places():
    shape = layout(SCHEMA, ["volume", "stage"])
    assert [(c.name, SCHEMA.variables[c.index].name, c.classes) for c in shape.inputs] == [
        ("score", "score", 0),
        ("stage", "stage", 3),
        ("age", "age", 0),
    ]
    assert [(c.name, c.per_year) for c in shape.known] == [("age", 1.0)]
    assert names(shape.static) == ["sex", "school"]
    assert [(t.name, t.index, t.seen) for t in shape.targets] == [("volume", 2, False), ("stage", 1, True)]
    assert (shape.targets[1].levels, shape.targets[1].positive) == (("low", "mid", "high"), 1)
    assert shape.modalities == ("t1", "flair")
    assert shape.grids == ((8, 8, 8, 1), (6, 6, 4, 1))


def test_hindsight_is_never_an_input():
    shape = layout(SCHEMA, ["score"])
    assert "outcome" not in names((*shape.inputs, *shape.known, *shape.static))


def test_what_is_hidden_is_no_input_and_may_still_be_a_target():
    shape = layout(SCHEMA, ["score"], ["score", "age", "school", "t1"])
    assert names(shape.inputs) == ["stage"]
    assert names(shape.known) == []
    assert names(shape.static) == ["sex"]
    assert (shape.modalities, shape.grids) == (("flair",), ((6, 6, 4, 1),))
    assert [(t.name, t.seen) for t in shape.targets] == [("score", False)]


@pytest.mark.parametrize(
    ("targets", "hidden", "complaint"),
    [
        ([], [], "no target is named"),
        (["scroe"], [], "'scroe' is not in the cohort"),
        (["sex"], [], "'sex' is not in the cohort"),
        (["outcome"], [], "hindsight"),
        (["score"], ["t2"], "hidden variable 't2'"),
    ],
)
def test_what_cannot_be_asked_is_one_line(targets, hidden, complaint):
    with pytest.raises(UserError, match=complaint) as told:
        layout(SCHEMA, targets, hidden)
    assert "\n" not in str(told.value)


def test_one_model_may_see_less_than_others():
    shape = layout(SCHEMA, ["score"])
    less = without(shape, ["score", "school", "t1"])
    assert names(less.inputs) == ["stage", "age"]
    assert (names(less.static), less.known) == (["sex"], shape.known)
    assert (less.modalities, less.grids) == (("flair",), ((6, 6, 4, 1),))
    assert [t.seen for t in less.targets] == [False]
    assert without(shape, []) == shape


@pytest.mark.parametrize("name", ["age", "volume", "weight"])
def test_only_an_input_that_is_not_known_ahead_can_be_hidden_from_one_model(name):
    complaint = f"model.hidden names '{name}', which is no input to hide; expected some of ['score', 'stage', 'sex'"
    with pytest.raises(UserError) as raised:
        without(layout(SCHEMA, ["score"]), [name])
    assert str(raised.value).startswith(complaint)
