"""What a schema refuses, and that it survives being written down."""

import json

import numpy as np
import pytest

from framework.data.cohort.schema import Modality, Scan, Schema, Subject, Variable, Visit, validate
from framework.errors import UserError

SCORE = Variable("score", roles=("input", "target"), units="points")
STAGE = Variable("stage", levels=("0", "1", "2"), ordered=True, positive_from="1")
SCHEMA = Schema((SCORE, STAGE), (Variable("sex", levels=("F", "M")),), (Modality("T1w", (2, 3, 4), (1.0, 1.0, 2.0)),))


def test_a_schema_is_itself_after_json():
    assert Schema.from_json(json.loads(json.dumps(SCHEMA.to_json()))) == SCHEMA


@pytest.mark.parametrize(
    ("keywords", "complaint"),
    [
        ({"roles": ("output",)}, "roles"),
        ({"roles": ()}, "roles"),
        ({"roles": ("hindsight", "input")}, "hindsight"),
        ({"levels": ("a",)}, "levels"),
        ({"levels": ("a", "a")}, "levels"),
        ({"levels": ("a", "b"), "positive_from": "a"}, "positive_from"),
    ],
)
def test_a_variable_that_cannot_be_is_refused(keywords, complaint):
    with pytest.raises(UserError, match=complaint):
        Variable("x", **keywords)


def test_a_name_stands_once():
    with pytest.raises(UserError, match="score"):
        Schema((SCORE,), (SCORE,))


def test_encoding():
    assert STAGE.encode("2") == 2.0
    assert SCORE.encode("3.5") == SCORE.encode(3.5) == 3.5
    assert np.isnan(SCORE.encode(None))
    assert np.isnan(SCORE.encode(float("nan")))
    for variable, value in ((STAGE, "3"), (SCORE, "many"), (SCORE, float("inf"))):
        with pytest.raises(UserError, match=variable.name):
            variable.encode(value)


def visits(*times: float, **last) -> tuple[Visit, ...]:
    made = [Visit(f"v{i}", time) for i, time in enumerate(times)]
    return (*made[:-1], Visit(**{"id": made[-1].id, "time": made[-1].time} | last))


@pytest.mark.parametrize(
    ("subject", "complaint"),
    [
        (Subject("a", ()), "no visit"),
        (Subject("a", visits(0.0, 1.0, id="v0")), "twice"),
        (Subject("a", visits(0.5, 1.0)), "start at 0"),
        (Subject("a", visits(0.0, float("nan"))), "finite"),
        (Subject("a", visits(0.0, 0.0)), "same time"),
        (Subject("a", visits(0.0, 2.0, 1.0)), "order of time"),
        (Subject("a", visits(0.0, values={"scare": 1.0})), "scare"),
        (Subject("a", visits(0.0, values={"stage": "9"})), "stage"),
        (Subject("a", visits(0.0), {"sex": "f"}), "sex"),
        (Subject("a", visits(0.0, scans={"T2w": Scan(np.zeros((2, 3, 4, 1), np.float32))})), "T2w"),
        (Subject("a", visits(0.0, scans={"T1w": Scan(np.zeros((2, 3, 3, 1), np.float32))})), "shape"),
        (Subject("a", visits(0.0, scans={"T1w": Scan(np.full((2, 3, 4, 1), np.inf, np.float32))})), "infinity"),
    ],
)
def test_a_subject_that_breaks_the_schema_is_named(subject, complaint):
    with pytest.raises(UserError, match=complaint) as caught:
        validate(subject, SCHEMA)
    assert "\n" not in str(caught.value)


def test_a_good_subject_passes():
    scan = Scan(np.zeros((2, 3, 4, 1), np.float32))
    validate(
        Subject("a", visits(0.0, 1.5, values={"score": 3.0, "stage": None}, scans={"T1w": scan}), {"sex": "F"}), SCHEMA
    )
