"""A cohort with one law: everyone loses two points a year, from a start of their own."""

import numpy as np
import pytest

from framework.data.cohort.schema import Variable
from framework.data.queries.examples import Examples
from framework.data.queries.layout import layout
from framework.data.splits.split import Split
from tests.cohorts import table

SUBJECTS = 20


@pytest.fixture(scope="session")
def trend(tmp_path_factory) -> Examples:
    rng = np.random.default_rng(0)
    series = {}
    for i in range(SUBJECTS):
        start, times = rng.normal(25, 3), np.cumsum([0, *rng.uniform(0.5, 1.5, 3)])
        series[f"s{i:02}"] = [(float(t), {"score": float(start - 2 * t)}) for t in times]
    cohort = table(tmp_path_factory.mktemp("trend") / "c", [Variable("score", ("input", "target"), "points")], series)
    return Examples(cohort, layout(cohort.schema, ["score"]))


@pytest.fixture(scope="session")
def split() -> Split:
    return thirds(0)


def thirds(shift: int, validation: bool = True) -> Split:
    place = (np.arange(SUBJECTS) + shift) % SUBJECTS
    judges = (place >= 12) & (place < 16) & validation
    return Split((place < 16) & ~judges, judges, place >= 16)
