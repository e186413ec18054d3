from dataclasses import replace

import numpy as np
import pytest

from framework.evaluate import subgroups as groups
from tests.cohorts import small


@pytest.fixture(scope="module")
def one(study):
    found = study()[0]
    return replace(found, forecasts={name: found.forecasts[name] for name in ("last_visit", "slope")})


@pytest.fixture(scope="module")
def rows(one):
    sex = ["F" if i % 2 else "M" for i in range(40)]
    rare = ["x" if i < 5 else "" if i < 8 else "y" for i in range(40)]
    # one group of women is forecast far worse, by one model
    women = np.array(sex)[one.subject] == "F"
    worse = one.forecasts["slope"] + 9 * women[:, None]
    return groups.subgroups([replace(one, forecasts=one.forecasts | {"slope": worse})], {"sex": sex, "rare": rare}, 300)


def test_each_subgroup_is_scored_alone(one, rows):
    men = np.arange(40)[one.subject] % 2 == 0
    expected = np.mean([np.abs(f[men, 2] - one.truth[men]).mean() for f in one.forecasts["last_visit"]])
    found = next(row for row in rows if (row.by, row.level, row.model) == ("sex", "M", "last_visit"))
    assert np.isclose(found.value, expected, rtol=1e-5)
    assert found.low <= found.value <= found.high
    assert (found.pairs, found.subjects) == (men.sum(), len(np.unique(one.subject[men])))


def test_a_gap_is_found_where_it_is(rows):
    by = {(row.level, row.model): row for row in rows if row.by == "sex"}
    assert by["F", "slope"].p < 0.01
    assert by["F", "slope"].difference_low > 5
    assert by["F", "last_visit"].p > 0.05
    assert np.isclose(by["F", "slope"].difference, -by["M", "slope"].difference, rtol=1e-5)


def test_few_subjects_are_not_told(rows):
    assert not [row for row in rows if row.by == "rare"]
    years = [row.level for row in rows if row.by == "years ahead" and row.model == "slope"]
    assert years == sorted(years, key=lambda level: int(level.split()[0]))
    assert len(years) > 2


def test_written_and_read(rows, tmp_path):
    groups.write(rows, tmp_path)
    assert groups.read(tmp_path) == rows


def test_what_tells_subjects_apart(tmp_path):
    cohort = small(tmp_path / "c")
    subjects = cohort.subjects[3:0:-1]
    told = groups.subgroup_labels(cohort, subjects)
    assert told["sex"] == ["M", "F", "M"]
    assert told["age"] == ["70 to 79"] * 3
    assert set(told) == {"sex", "age", "stage"}
    first = cohort.values[3, cohort.observed[3, :, 1].argmax(), 1]
    assert told["stage"][0] == ("low", "mid", "high")[int(first)]
