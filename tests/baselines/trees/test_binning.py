import jax
import jax.numpy as jnp
import numpy as np
import pytest

from framework.baselines.native import forest as native
from framework.baselines.trees import binning


def table(seed=0, n=400, f=7):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, f)).astype(np.float32)
    x[:, 1] = rng.integers(0, 5, n)
    x[:, 2] = np.where(rng.random(n) < 0.6, 0.0, x[:, 2])  # one value has most of the rows
    x[:, 3] = 2.5
    x[:, 4] = np.exp(5 * x[:, 4])
    return x, rng.random((n, f)) < 0.9, rng.random(n) * (rng.random(n) < 0.8)


@pytest.mark.parametrize("bins", [2, 16, 255])
def test_native_and_xla_cut_alike(bins):
    if not native.available():
        pytest.skip("no native kernels on this machine")
    for n in (1, 400):
        x, observed, weight = table(n=n)
        kept = observed & (weight > 0)[:, None]
        cuts = binning.edges(x, observed, weight.astype(np.float32), bins)
        np.testing.assert_array_equal(cuts, jax.jit(binning._edges, static_argnums=2)(x, kept, bins))
        np.testing.assert_array_equal(binning.codes(x, observed, cuts), binning._codes(x, observed, cuts))


def test_few_values_are_cut_midway():
    x = np.array([[3.0], [1.0], [1.0], [7.0], [99.0]], np.float32)
    weight = np.array([1, 1, 2, 1, 0], np.float32)
    cuts = binning.edges(x, np.ones((5, 1), bool), weight, 5)
    np.testing.assert_array_equal(cuts, [[2.0, 5.0, np.inf, np.inf]])


def test_many_values_are_cut_evenly_and_no_edge_is_wasted():
    x, _, _ = table(n=3000)
    observed, weight = np.ones(x.shape, bool), np.ones(len(x), np.float32)
    found = binning.edges(x, observed, weight, 32)
    assert np.all(np.diff(found[2]) > 0)  # all 31, though one value has most of the rows
    count = np.bincount(np.asarray(binning.codes(x, observed, found))[:, 0], minlength=32)
    assert count.min() > 80
    assert count.max() < 110


def test_a_code_is_the_number_of_edges_below():
    x, observed, weight = table()
    cuts = np.asarray(binning.edges(x, observed, weight.astype(np.float32), 24))
    found = np.asarray(binning.codes(x, observed, cuts))
    for b in range(23):
        np.testing.assert_array_equal((found <= b)[observed], (x <= cuts[:, b])[observed])
    assert np.all(found[~observed] == binning.MISSING)


def test_rows_without_weight_and_hidden_values_are_not_seen():
    x, observed, weight = table()
    weight = weight.astype(np.float32)
    other = np.where(observed & (weight > 0)[:, None], x, np.nan).astype(np.float32)
    cuts = binning.edges(x, observed, weight)
    np.testing.assert_array_equal(cuts, binning.edges(other, observed, weight))
    np.testing.assert_array_equal(cuts, binning.edges(x[weight > 0], observed[weight > 0], weight[weight > 0]))
    np.testing.assert_array_equal(cuts, binning.edges(x, observed, weight * 2))


def test_a_category_is_its_own_code():
    x = jnp.array([[0.0, 0.5], [3.0, -1.0], [4.0, 9.0], [-1.0, 2.0]])
    cuts = jnp.array([[0.1, 0.2], [0.0, 1.0]])
    found = binning.codes(x, jnp.ones(x.shape, bool), cuts, (4, 0))
    np.testing.assert_array_equal(found, [[0, 1], [3, 0], [255, 2], [255, 2]])


def test_lanes_are_single_calls():
    x, observed, weight = table()
    weights = jnp.stack([weight, weight[::-1]]).astype(jnp.float32)
    many = jax.vmap(lambda w: binning.edges(x, observed, w, 12))(weights)
    np.testing.assert_array_equal(many[1], binning.edges(x, observed, weights[1], 12))
