"""Members that have stopped leave the program, and nobody else is the wiser."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from framework.forecast.fit_request import FitRequest
from framework.train import lane_compaction
from framework.train.cost.throughput import Meter
from framework.train.lane_compaction import narrowed
from tests.train.conftest import thirds
from tests.train.test_loop import programs, recipe, told  # noqa: F401  one program for all of them

COUNT = 5


@pytest.fixture
def study(trend):
    """Members of which all but the third and fifth stop at once: at a rate of 0 nothing gets better."""
    learner = recipe(steps=16, eval_every=2, patience=2, dropout=0.3)
    alike = jax.tree.map(lambda x: jnp.broadcast_to(x, (COUNT, *x.shape)), learner.training.dynamic(1))
    rates = jnp.array([0.0, 0.0, 0.02, 0.0, 0.02])
    splits, keys = [thirds(m % 3) for m in range(COUNT)], jax.random.split(jax.random.key(1), COUNT)
    return learner, splits, keys, dataclasses.replace(alike, learning_rate=rates)


@pytest.fixture
def widths(monkeypatch):
    """How many members each call of the step had."""
    seen, timed = [], Meter.time

    def noted(self, function, members, *rest):
        seen.append(len(members.step))
        return timed(self, function, members, *rest)

    monkeypatch.setattr(Meter, "time", noted)
    return seen


def fit(study, trend, folder=None, log=lambda row: None):
    learner, *others = study
    return [told(one, trend) for one in learner.fit_many(FitRequest(trend, *others, folder, log))]


def test_what_is_learnt_is_what_it_would_be(study, trend, widths, monkeypatch):
    rows, told_alike = [], []
    whole = fit(study, trend, log=told_alike.append)
    assert set(widths) == {COUNT}
    widths.clear()
    monkeypatch.setattr(lane_compaction, "SAVED", {"cpu": 1.0})
    for mine, theirs in zip(fit(study, trend, log=rows.append), whole, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5)
    assert widths[0] == COUNT
    assert widths[-1] < COUNT
    assert [(row["member"], row["step"]) for row in rows] == [(row["member"], row["step"]) for row in told_alike]


@pytest.mark.parametrize("stopped", [4, 8, 12])
def test_an_interrupted_run_ends_bit_equal(study, trend, tmp_path, monkeypatch, stopped):
    monkeypatch.setattr(lane_compaction, "SAVED", {"cpu": 1.0})
    whole = fit(study, trend)

    def stop(row: dict) -> None:
        if row["step"] == stopped:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(study, trend, tmp_path, stop)
    for mine, theirs in zip(fit(study, trend, tmp_path), whole, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_member_that_fails_in_the_smaller_program_is_named_by_its_own_place(study, trend, monkeypatch):
    monkeypatch.setattr(lane_compaction, "SAVED", {"cpu": 1.0})
    learner, *others = study
    failed, expected = {}, []

    def lost(loss, active, step, feed, places):
        if len(places) == COUNT or failed:
            return {}
        expected.append(int(places[0]))
        return {0: "planted"}

    monkeypatch.setattr("framework.train.loop._lost", lost)
    learner._fitted(FitRequest(trend, *others), failed.__setitem__)
    assert failed == {expected[0]: "planted"}


def test_it_narrows_by_halves_and_only_where_that_saves_enough():
    active = np.array([True, False, False, True, False, False, False, False])
    enough = lane_compaction.SAVED["cpu"]
    np.testing.assert_array_equal(narrowed(active, enough, 2), [0, 3])
    assert narrowed(active, enough, 1) is None
    assert narrowed(~active, enough, 100) is None
    np.testing.assert_array_equal(narrowed(np.arange(8) == 5, enough, 9), [5])
