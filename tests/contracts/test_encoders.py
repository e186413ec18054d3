"""Every image encoder of conf/model/encoder obeys the encoder's contract, in a model and alone."""

import jax
import numpy as np
import pytest
from flax import nnx

from tests.contracts.recipes import encoder, names

IMAGE = [name for name in names("model/encoder") if encoder(name) is not None]


@pytest.fixture(scope="module", params=IMAGE)
def make(request):
    return encoder(request.param)


@pytest.mark.parametrize("grid", [(16, 16, 16, 1), (17, 16, 19, 2)])
def test_each_scan_by_itself(make, grid):
    built = make(grid=grid, rngs=nnx.Rngs(0))
    voxels = np.random.default_rng(0).normal(size=(3, *grid)).astype(np.float32)
    whole = jax.jit(built)(voxels)
    assert whole.shape == (3, built.out_features)
    np.testing.assert_allclose(jax.jit(built)(voxels[1:2]), whole[1:2], rtol=2e-4, atol=2e-5)
    assert np.abs(whole[0] - whole[1]).max() > 0


def test_finite_gradients_even_of_an_empty_scan(make):
    built = make(grid=(16, 16, 16, 1), rngs=nnx.Rngs(0))
    graph, state = nnx.split(built)

    def total(state):
        return (nnx.merge(graph, state)(np.zeros((2, 16, 16, 16, 1), np.float32)) ** 2).sum()

    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.jit(jax.grad(total))(state)))
