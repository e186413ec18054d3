"""A new cohort read through the schema a model was fitted on."""

import dataclasses

import numpy as np
import pytest

from framework.data.cohort.schema import Modality, Variable
from framework.data.cohort.schema_alignment import align
from framework.errors import UserError
from tests.cohorts import SCHEMA, small


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return small(tmp_path_factory.mktemp("cohort") / "c", subjects=4)


def with_variable(schema, name, **changes):
    found = schema.variable(name)
    changed = tuple(dataclasses.replace(v, **changes) if v is found else v for v in schema.variables)
    return dataclasses.replace(schema, variables=changed)


def test_under_its_own_schema_nothing_changes(cohort):
    same = align(cohort, SCHEMA)
    for name in ("values", "observed", "static", "static_observed", "times"):
        np.testing.assert_array_equal(getattr(same, name), getattr(cohort, name))


def test_variables_go_to_their_places_by_name(cohort):
    new = (Variable("bmi"), *SCHEMA.variables[2::-1], SCHEMA.variables[3])
    there = align(cohort, dataclasses.replace(SCHEMA, variables=new, static=SCHEMA.static[::-1]))
    assert there.values.shape[-1] == 5
    for place, variable in enumerate(new[1:], 1):
        old = SCHEMA.variables.index(variable)
        np.testing.assert_array_equal(there.values[..., place], cohort.values[..., old])
        np.testing.assert_array_equal(there.observed[..., place], cohort.observed[..., old])
    assert not there.observed[..., 0].any(), "what the new cohort lacks is unobserved"
    np.testing.assert_array_equal(there.static, cohort.static[:, ::-1])


def test_scans_stay_what_they_were(cohort):
    there = align(
        cohort,
        dataclasses.replace(SCHEMA, modalities=(*SCHEMA.modalities[:1], Modality("pet", (4, 4, 4), (1.0, 1.0, 1.0)))),
    )
    np.testing.assert_array_equal(there.present["t1"], cohort.present["t1"])
    assert not there.present["pet"].any()
    i, j = np.argwhere(cohort.present["t1"])[0].tolist()
    np.testing.assert_array_equal(there.voxels("t1", i, j), cohort.voxels("t1", i, j))


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        (with_variable(SCHEMA, "stage", levels=("none", "mid", "high")), "stage has levels"),
        (with_variable(SCHEMA, "age", units="days"), "age is in years; the model was fitted on days"),
        (dataclasses.replace(SCHEMA, modalities=(Modality("t1", (8, 8, 8), (2.0, 1.0, 1.0)),)), "t1 is on"),
        (dataclasses.replace(SCHEMA, variables=(Variable("bmi"),), static=(), modalities=()), "shares nothing"),
    ],
)
def test_what_would_be_misread_is_refused_in_one_line(cohort, schema, complaint):
    with pytest.raises(UserError, match=complaint) as told:
        align(cohort, schema)
    assert "\n" not in str(told.value)
