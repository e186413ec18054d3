"""What is known at each visit, against a loop over the visits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.history import at_origin, last_observed
from framework.types import Query

SHAPES = st.sampled_from([(3, 5, 2), (2, 1, 1)])  # few, because each is compiled


@st.composite
def histories(draw):
    b, t, f = draw(SHAPES)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    observed = rng.random((b, t, f)) < draw(st.sampled_from([0.0, 0.3, 0.8, 1.0]))
    return rng.normal(size=(b, t, f)).astype(np.float32), observed, np.cumsum(rng.random((b, t)), 1).astype(np.float32)


@given(histories())
def test_last_observed_is_what_a_loop_finds(history):
    values, observed, times = history
    masked = np.where(observed, values, np.float32(np.nan))  # what is under a mask is never read
    found = [np.asarray(part) for part in last_observed(masked, observed, times)]
    for i, j, k in np.ndindex(values.shape):
        seen = [v for v in range(j + 1) if observed[i, v, k]]
        expected = (values[i, seen[-1], k], True, times[i, seen[-1]]) if seen else (0, False, 0)
        assert tuple(part[i, j, k] for part in found) == pytest.approx(expected)


@given(histories(), st.integers(0, 2**32))
def test_at_origin_takes_row_by_row(history, seed):
    values, observed, times = history
    rng, (b, t) = np.random.default_rng(seed), times.shape
    for row, subjects in ((None, np.arange(b)), (picked := rng.integers(0, b, 7), picked)):
        origin = rng.integers(0, t, (len(subjects), 4))
        query = Query(
            np.zeros(origin.shape),
            origin,
            np.zeros((*origin.shape, 0)),
            np.zeros((*origin.shape, 0), bool),
            np.ones(origin.shape, bool),
            row,
        )
        for series in (values, observed, times):
            expected = np.stack([series[subject, places] for subject, places in zip(subjects, origin, strict=True)])
            np.testing.assert_array_equal(at_origin(series, query), expected)
