"""Group normalisation with ReLU and pooling: NumPy's values, XLA's gradients, the same however it is called."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from framework.nn.native import library
from framework.nn.norm import _plain, group_norm, max_pool

CASES = [  # shape, groups, relu, pool
    ((2, 8, 8, 8, 16), 8, True, 2),
    ((2, 7, 9, 5, 24), 8, True, 2),  # odd sizes: the last voxels fill no window
    ((3, 6, 7, 8, 4), 2, True, 1),
    ((2, 5, 4, 6, 20), 5, False, 1),
    ((2, 7, 9, 6, 40), 8, False, 3),
    ((2, 12, 13, 24), 8, True, 2),
    ((2, 5, 6, 3), 1, False, 1),
]


def arrays(shape: tuple[int, ...], mean: float = 3.0):
    rng = np.random.default_rng(0)
    return [
        rng.normal(mean, size=shape).astype("f"),
        *(rng.normal(size=shape[-1]).astype("f") for _ in range(2)),
    ]


def by_hand(x, scale, bias, groups, relu, pool):
    """In float64, scan by scan and window by window."""
    n, *space, c = x.shape
    parts = x.astype(float).reshape(n, -1, groups, c // groups)
    standard = (parts - parts.mean((1, 3), keepdims=True)) / np.sqrt(parts.var((1, 3), keepdims=True) + 1e-5)
    y = standard.reshape(x.shape) * scale + bias
    y = np.maximum(y, 0) if relu else y
    out = np.empty((n, *(s // pool for s in space), c))
    for place in np.ndindex(*out.shape[1:-1]):
        window = tuple(slice(p * pool, (p + 1) * pool) for p in place)
        out[(slice(None), *place)] = y[(slice(None), *window)].reshape(n, -1, c).max(1)
    return out


@pytest.mark.parametrize(("shape", "groups", "relu", "pool"), CASES)
def test_values_and_gradients(shape, groups, relu, pool):
    x, scale, bias = arrays(shape)
    ours = jax.jit(lambda *a: group_norm(*a, groups, relu=relu, pool=pool))
    expected = by_hand(x, scale, bias, groups, relu, pool)
    np.testing.assert_allclose(ours(x, scale, bias), expected, rtol=1e-4, atol=1e-5)
    at = np.random.default_rng(1).normal(size=expected.shape).astype("f")

    def gradients(f):
        return jax.jit(jax.grad(lambda *a: (f(*a) * at).sum(), (0, 1, 2)))(x, scale, bias)

    for a, b in zip(gradients(ours), gradients(lambda *parts: _plain(*parts, groups, relu, pool)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-6 * np.abs(b).max())


def test_a_mean_far_from_zero_costs_no_digits():
    x, scale, bias = arrays((2, 8, 8, 8, 16), mean=1000.0)
    np.testing.assert_allclose(
        group_norm(x, scale, bias, 8), by_hand(x, scale, bias, 8, False, 1), rtol=1e-2, atol=1e-3
    )


def test_of_equals_in_a_window_one_gets_the_gradient():
    x = jnp.ones((1, 4, 4, 4, 16)).at[:, :2].set(2.0)
    _, back = jax.vjp(lambda x: group_norm(x, jnp.ones(16), 2 * jnp.ones(16), 8, relu=True, pool=2), x)
    (dx,) = back(jnp.ones((1, 2, 2, 2, 16)))
    window = np.sort(np.asarray(dx)[0, :2, :2, :2, 0].ravel())
    if library.normalises():  # without the kernels they share it
        assert window[-1] > window[-2] + 1
        np.testing.assert_array_equal(window[:-1], window[0])
    np.testing.assert_allclose(dx.sum(), 0, atol=1e-4)


def test_models_side_by_side_and_scans_in_any_company():
    x, scale, bias = (np.stack([part, part + 1, 2 * part]) for part in arrays((4, 6, 6, 6, 16)))

    def loss(x, scale, bias):
        return (group_norm(x, scale, bias, 8, relu=True, pool=2) ** 2).sum()

    together = jax.jit(jax.vmap(jax.value_and_grad(loss, (0, 1, 2))))(x, scale, bias)
    alone = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(x[1], scale[1], bias[1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-5, atol=1e-5), together, alone)
    one = group_norm(x[0][2:3], scale[0], bias[0], 8, relu=True, pool=2)
    np.testing.assert_allclose(
        group_norm(x[0], scale[0], bias[0], 8, relu=True, pool=2)[2:3], one, rtol=1e-5, atol=1e-6
    )


def test_one_bad_voxel_is_loud():
    x, scale, bias = arrays((2, 4, 4, 4, 16))
    x[1, 2, 2, 2, 3] = np.nan
    y = np.asarray(group_norm(x, scale, bias, 8, relu=True, pool=2))
    assert np.isnan(y[1, ..., 2:4]).all()
    assert np.isfinite(y[0]).all()


def test_max_pool_of_uneven_sizes():
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype("f")
    np.testing.assert_array_equal(max_pool(x, 2), x[:, :4].reshape(2, 2, 2, 2, 2, 3).max((2, 4)))
