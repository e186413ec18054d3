"""Short rows of questions: the same questions, each beside its answers and of its own subject."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.data.batches.query_packing import ROW, packed, rows_of, width
from tests.cohorts import examples

ROWS = list(range(12))
of = jax.jit(lambda made, subject, real, slots: made.of(subject, real, slots))


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    return examples(tmp_path_factory.mktemp("cohort") / "c").train_queries


def listed(query, truth, rows) -> list[tuple]:
    """Each question with its answers, by subject and in its order."""
    found = []
    for row, subject in enumerate(rows):
        for place in np.flatnonzero(np.asarray(query.valid)[row]):
            parts = jax.tree.map(lambda x, at=(row, place): np.asarray(x)[at].tolist(), (query, truth))
            found.append((subject, str(parts[0].time), str(parts[0].origin), str(parts[0].known), str(parts[1])))
    return sorted(found)


@given(st.lists(st.sampled_from(ROWS), unique=True, min_size=1), st.sampled_from([1, 2, 5]))
def test_rows_hold_every_question_of_the_batch_and_no_other(taught, rows, wide):
    made = jax.tree.map(jnp.asarray, packed(taught, wide))
    subject = np.array([*rows, *[0] * (len(ROWS) - len(rows))])
    slots, real = jnp.arange(int(rows_of(taught, wide).sum()) + 3), np.arange(len(ROWS)) < len(rows)
    query, truth, filled = of(made, subject, real, slots)
    assert filled.sum() == rows_of(taught, wide)[rows].sum()
    for masks in (query.valid, *(one.observed for one in truth.values())):
        assert not np.asarray(masks)[~np.asarray(filled)].any()
    whole = jax.tree.map(lambda x: np.asarray(jnp.asarray(x))[rows], (taught.query, taught.truth))
    whom = subject[np.asarray(query.row)].tolist()
    assert listed(replace(query, row=None), truth, whom) == listed(*whole, rows)


def test_a_row_is_as_wide_as_costs_least(taught):
    cost = [int(rows_of(taught, wide).sum()) * (wide + ROW) for wide in range(1, taught.query.valid.shape[1] + 1)]
    assert cost[width(taught) - 1] == min(cost) < cost[-1]
