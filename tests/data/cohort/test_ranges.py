from dataclasses import replace

import pytest

from framework.data.cohort.ranges import far_outside, ranges
from framework.data.cohort.schema import Variable
from tests.cohorts import table

VARIABLES = (Variable("volume", units="mm3"), Variable("stage", levels=("a", "b")), Variable("seen", roles=("date",)))


def cohort(folder, values, **changed):
    series = {f"s{i}": [(0.0, {"volume": v, "stage": "a", "seen": 2010.0})] for i, v in enumerate(values)}
    return table(folder, (replace(VARIABLES[0], **changed), *VARIABLES[1:]), series)


def test_ranges_are_those_of_the_numbers_observed(tmp_path):
    assert ranges(cohort(tmp_path / "a", [3000.0, None, 4500.0])) == {"volume": [3000.0, 4500.0]}
    assert ranges(cohort(tmp_path / "b", [None, None])) == {}


@pytest.mark.parametrize("values", [[2300.0, 5200.0], [3500.0], [None]])
def test_a_value_near_the_range_is_not_warned_of(tmp_path, values):
    assert list(far_outside(cohort(tmp_path, values), {"volume": [3000.0, 4500.0]})) == []


def test_values_in_another_unit_are_named_with_the_range(tmp_path):
    [line] = far_outside(cohort(tmp_path, [3.5, 3.4, 4000.0]), {"volume": [3000.0, 4500.0]})
    assert line == (
        "volume: 2 of 3 values lie far outside 3000 to 4500 mm3, the range that the model was fitted on, the first 3.5; "
        "check their unit"
    )


def test_a_logarithmic_scale_is_compared_by_its_logarithm(tmp_path):
    known = {"volume": [1.0, 100.0]}
    assert list(far_outside(cohort(tmp_path / "near", [0.2, 900.0], scale="log"), known)) == []
    assert len(list(far_outside(cohort(tmp_path / "far", [0.05], scale="log"), known))) == 1
