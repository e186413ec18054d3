"""Requests to fit: members picked, repeated and numbered without another way to say so."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from framework.data.splits.split import Split
from framework.forecast.fit_request import FitRequest
from framework.train.optimizer import TracedHyperparameters
from tests.evaluate.leakage.plants import study

KEYS = jax.random.split(jax.random.key(0), 3)
ORDER = np.arange(6)
SPLITS = [Split(2 + m > ORDER, (2 + m <= ORDER) & (ORDER < 5), ORDER == 5) for m in range(3)]
RATES = jnp.array([0.1, 0.2, 0.3])


def request(**changes) -> FitRequest:
    dynamics = TracedHyperparameters(RATES, RATES, RATES, RATES[:, None], RATES)
    return FitRequest(**({"examples": study(), "splits": SPLITS, "keys": KEYS, "dynamics": dynamics} | changes))


def test_members_are_picked_with_their_splits_keys_and_settings():
    picked = request().at([2, 0, 0])
    assert [split is SPLITS[m] for split, m in zip(picked.splits, (2, 0, 0), strict=True)] == [True] * 3
    assert (picked.keys == KEYS[jnp.array([2, 0, 0])]).all()
    np.testing.assert_array_equal(picked.dynamics.learning_rate, RATES[jnp.array([2, 0, 0])])
    assert request(dynamics=None).at([1]).dynamics is None


def test_each_member_has_one_split_and_one_key():
    assert [number for number, *_ in request().members] == [0, 1, 2]
    with pytest.raises(ValueError, match="shorter"):
        [*request(keys=KEYS[:2]).members]


def test_those_set_aside_stop_no_training():
    aside = [ORDER == 3] * 3
    for split, kept in zip(SPLITS, request().setting_aside(aside).splits, strict=True):
        np.testing.assert_array_equal(kept.validation, split.validation & (ORDER != 3))
        np.testing.assert_array_equal(kept.train, split.train)


def test_state_and_log_are_those_of_the_part():
    rows: list[dict] = []
    own = request(folder=Path("run"), log=rows.append).within("gru").numbered_from(6, part="gru").numbered_from(1)
    assert own.folder == Path("run/gru")
    assert request().within("gru").folder is None
    own.log({"member": 1, "step": 4})
    assert rows == [{"member": 8, "step": 4, "part": "gru"}]
