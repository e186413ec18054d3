import jax
import numpy as np
import pytest
from flax import nnx

from framework.errors import UserError
from framework.nn.encoders.classic import Classic


def test_the_network_of_the_text_by_a_plain_reference():
    """Convolutions 32, 64, 64 of 3 by 3, two poolings, dense 64: 896 + 18,496 + 36,928 + 65,600 parameters."""
    made = nnx.jit(lambda: Classic([32, 64, 64], 0, 64, grid=(32, 32, 3), rngs=nnx.Rngs(0)))()
    leaves = jax.tree.leaves(nnx.state(made, nnx.Param))
    assert sum(leaf.size for leaf in leaves) == 896 + 18_496 + 36_928 + 65_600
    x = np.random.default_rng(0).random((2, 32, 32, 3)).astype(np.float32)
    told = x
    for place, layer in enumerate(made.layers):
        if place:
            n, u, v, c = told.shape
            told = told[:, : u // 2 * 2, : v // 2 * 2].reshape(n, u // 2, 2, v // 2, 2, c).max((2, 4))
        windows = np.lib.stride_tricks.sliding_window_view(told, (3, 3), (1, 2))
        told = np.einsum("nuvcij,ijco->nuvo", windows, np.asarray(layer.weights[...])) + np.asarray(layer.bias[...])
        told = np.maximum(told, 0)
    told = told.reshape(2, -1) @ np.asarray(made.dense.weight[...]) + np.asarray(made.dense.bias[...])
    np.testing.assert_allclose(jax.jit(made)(x), np.maximum(told, 0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("padding", "least"), [(0, 18), (1, 4)])
def test_the_smallest_image(padding, least):
    made = nnx.jit(lambda: Classic([4, 4, 4], padding, 5, grid=(least, least, 1), rngs=nnx.Rngs(0)))()
    assert jax.jit(made)(np.ones((1, least, least, 1), np.float32)).shape == (1, 5)
    with pytest.raises(UserError, match=f"at least {least} voxels"):
        Classic([4, 4, 4], padding, 5, grid=(least - 1, least, 1), rngs=nnx.Rngs(0))
