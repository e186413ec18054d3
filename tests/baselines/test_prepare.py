from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from framework.baselines.base import Estimator
from framework.baselines.prepare import Prepared, moments

KEY = jax.random.key(0)


@dataclass(frozen=True)
class Memory(Estimator):
    """Remembers the weighted sums of what it was given, and how often it was asked."""

    classes: int = 0
    penalty: float | jax.Array = 1.0
    calls: tuple = ()
    DYNAMIC = ("penalty",)

    def fit(self, x, observed, y, weight, *, key):
        return {"sum": (weight[:, None] * x).sum(0), "square": (weight[:, None] * x**2).sum(0) * self.penalty}

    def predict(self, params, x, observed):
        return jnp.where(observed, x, 0) @ jnp.ones((x.shape[1], 1))

    def fit_many(self, x, observed, y, weights, *, keys, settings=None):
        SEEN.append(len(weights))
        return super().fit_many(x, observed, y, weights, keys=keys, settings=settings)


SEEN: list[int] = []


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (40, 5)).astype(np.float32) * np.array([1, 1e-20, 1e6, 0, 1], np.float32) + np.float32(1e4)
    x[:, 1] -= np.float32(1e4)
    x[:, 1] = rng.normal(0, 1e-20, 40)
    observed = rng.random((40, 5)) > 0.2
    observed[:, 4] = False
    observed[:, 3] = True
    weight = rng.integers(0, 3, 40).astype(np.float32)
    return x, observed, rng.normal(size=40).astype(np.float32), weight


def test_moments_are_scikit_learns(table):
    x, observed, _, weight = table
    of = moments(x, observed, weight)
    shown = np.where(observed, x, np.nan).astype(np.float64)[:, :3]
    scaler = StandardScaler().fit(shown, sample_weight=weight)
    np.testing.assert_allclose(of.mean[:3], scaler.mean_, rtol=1e-5, atol=1e-25)
    np.testing.assert_allclose(of.scale[:3], scaler.scale_, rtol=1e-4)
    np.testing.assert_array_equal(of.mean[3:], [1e4, 0])
    np.testing.assert_array_equal(of.scale[3:], [1, 1])
    np.testing.assert_array_equal(of.gaps, [True, True, True, False, True])


@pytest.mark.parametrize("indicators", [False, True])
def test_what_is_masked_or_weighs_nothing_is_not_read(table, indicators):
    x, observed, y, weight = table
    model = Prepared(Memory(), indicators)
    loud = np.where(observed & (weight > 0)[:, None], x, np.nan).astype(np.float32)
    mask = np.where((weight > 0)[:, None], observed, ~observed)
    before, after = (model.fit(a, b, y, weight, key=KEY) for a, b in ((x, observed), (loud, mask)))
    jax.tree.map(np.testing.assert_array_equal, before, after)
    hidden = np.where(observed, x, np.nan).astype(np.float32)
    np.testing.assert_array_equal(model.predict(before, x, observed), model.predict(before, hidden, observed))


def test_indicators_tell_of_gaps_that_training_had(table):
    x, observed, y, weight = table
    model = Prepared(Memory(), True)
    params = model.fit(x, observed, y, weight, key=KEY)
    z = model.features(params.moments, x, np.zeros_like(observed))
    np.testing.assert_array_equal(z[:, :5], 0)
    np.testing.assert_array_equal(z[:, 5:], np.tile([1, 1, 1, 0, 1], (40, 1)))


def test_folds_are_standardised_once_and_lanes_are_fits(table):
    x, observed, y, weight = table
    model = Prepared(Memory())
    weights = np.stack([weight, weight[::-1], weight, weight[::-1]])
    penalty = np.arange(1.0, 5.0, dtype=np.float32)
    keys = jax.random.split(KEY, 4)
    SEEN.clear()
    many = model.fit_many(x, observed, y, weights, keys=keys, settings={"penalty": penalty})
    assert SEEN == [2, 2]
    assert model.DYNAMIC == ("penalty",)
    traced = jax.jit(lambda w: model.fit_many(x, observed, y, w, keys=keys, settings={"penalty": penalty}))(weights)
    for lane in range(4):
        own = model.given({"penalty": float(penalty[lane])})
        one = own.fit(x, observed, y, weights[lane], key=keys[lane])
        for together in (many, traced):
            got = jax.tree.map(lambda leaf, lane=lane: leaf[lane], together)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), got, one)
