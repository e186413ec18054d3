"""What every image encoder must obey, as functions, so that broken encoders can be put to the same question."""

import jax
import numpy as np
from flax import nnx


def scans(grid: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, *grid)).astype(np.float32)


def each_scan_by_itself(make, grid: tuple[int, ...]) -> None:
    """Other scans in the batch, and their order, change nothing beyond rounding; different scans differ."""
    built, voxels = make(grid=grid, rngs=nnx.Rngs(0)), scans(grid)
    encode = jax.jit(built)
    whole = encode(voxels)
    assert whole.shape == (3, built.out_features)
    turned = encode(voxels[[2, 0, 0]])
    np.testing.assert_allclose(turned, whole[np.array([2, 0, 0])], rtol=2e-4, atol=2e-5)
    assert np.abs(whole[0] - whole[1]).max() > 0


def finite_gradients(make, grid: tuple[int, ...]) -> None:
    """Even of a scan in which there is nothing; and those of others are not all zero."""
    graph, state = nnx.split(make(grid=grid, rngs=nnx.Rngs(0)))

    def total(state, voxels):
        return (nnx.merge(graph, state)(voxels) ** 2).sum()

    slope = jax.jit(jax.grad(total))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope(state, np.zeros((2, *grid), np.float32))))
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slope(state, scans(grid)[:2])))


def the_same_compiled(make, grid: tuple[int, ...]) -> None:
    built, voxels = make(grid=grid, rngs=nnx.Rngs(0)), scans(grid)
    np.testing.assert_allclose(jax.jit(built)(voxels), built(voxels), rtol=2e-4, atol=2e-5)


LAWS = (each_scan_by_itself, finite_gradients, the_same_compiled)
