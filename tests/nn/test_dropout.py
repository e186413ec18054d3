"""Dropout drops the share it is told, everywhere, and differently for every key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from framework.nn.dropout import bits, dropout

SHAPE = (64, 1024)


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 0.9])
def test_the_share_dropped_is_the_rate_and_the_mean_stays(rate):
    told = np.asarray(dropout(jnp.ones(SHAPE), rate, jax.random.key(3)))
    dropped = (told == 0).mean()
    assert abs(dropped - rate) < 4 * np.sqrt(rate * (1 - rate) / told.size) + 1e-9
    np.testing.assert_allclose(told[told > 0], 1 / (1 - rate), rtol=1e-6)


def test_no_key_no_dropout():
    np.testing.assert_array_equal(dropout(jnp.ones(3), 0.9, None), np.ones(3))


def test_every_bit_is_a_coin_and_keys_and_neighbours_have_nothing_to_do_with_each_other():
    """Correlations of n coins have a spread of 1 / sqrt(n); neighbouring keys are the hardest for a hash."""
    keys = jax.vmap(jax.random.wrap_key_data)(jnp.array([[0, 0], [0, 1], [1, 0], [7, 7]], jnp.uint32))
    drawn = np.asarray(jax.vmap(lambda key: bits(key, SHAPE))(keys))
    coins = ((drawn[..., None] >> np.arange(32, dtype=np.uint32)) & 1).reshape(4, -1, 32) * 2.0 - 1
    n = coins.shape[1]
    assert np.abs(coins.mean(1)).max() < 5 / np.sqrt(n)
    for lag in (1, 2, 64, 1024):
        assert np.abs((coins[:, lag:] * coins[:, :-lag]).mean(1)).max() < 5 / np.sqrt(n - lag)
    for one in range(4):
        for other in range(one):
            assert np.abs((coins[one] * coins[other]).mean(0)).max() < 5 / np.sqrt(n)


def test_lanes_draw_what_they_would_alone():
    keys = jax.random.split(jax.random.key(0), 3)
    lanes = jax.vmap(lambda key: bits(key, (5, 7)))(keys)
    for key, lane in zip(keys, lanes, strict=True):
        np.testing.assert_array_equal(bits(key, (5, 7)), lane)
