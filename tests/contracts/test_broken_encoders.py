"""Each law of encoders is broken by an encoder made to break it."""

import jax
import jax.numpy as jnp
import pytest

from framework.nn.encoders.base import Encoder
from framework.nn.layers import Dense
from tests.contracts import encoder_laws as laws

GRID = (5, 4, 1)


class Lawful(Encoder):
    """The brightness of a scan, and how much it varies; the broken ones below each spoil it in one way."""

    def __init__(self, *, grid, rngs):
        self.dense, self.out_features = Dense(2, 3, rngs=rngs), 3

    def __call__(self, voxels):
        return self.dense(self.features(jnp.reshape(voxels, (len(voxels), -1))))

    def features(self, flat):
        return jnp.stack([flat.mean(1), jnp.square(flat).mean(1)], 1)


class NormalisesOverTheBatch(Lawful):
    def features(self, flat):
        return super().features(flat - flat.mean(0))


class SeesNothing(Lawful):
    def features(self, flat):
        return 0 * super().features(flat)


class DividesByNothing(Lawful):
    def features(self, flat):
        return super().features(flat / flat.std(1, keepdims=True))


class LearnsNothing(Lawful):
    def __call__(self, voxels):
        return jax.lax.stop_gradient(super().__call__(voxels))


class DiffersWhenCompiled(Lawful):
    def features(self, flat):
        return super().features(flat) + isinstance(flat, jax.core.Tracer)


@pytest.mark.parametrize(
    ("law", "broken"),
    [
        (laws.each_scan_by_itself, NormalisesOverTheBatch),
        (laws.each_scan_by_itself, SeesNothing),
        (laws.finite_gradients, DividesByNothing),
        (laws.finite_gradients, LearnsNothing),
        (laws.the_same_compiled, DiffersWhenCompiled),
    ],
    ids=lambda f: f.__name__,
)
def test_a_broken_encoder_is_caught(law, broken):
    law(Lawful, GRID)
    with pytest.raises(AssertionError):
        law(broken, GRID)
