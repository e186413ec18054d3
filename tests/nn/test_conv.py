"""The CPU's convolution against XLA's own, values and gradients."""

import jax
import numpy as np
import pytest

from framework.nn.conv import _native, convolve, space_to_depth

SHAPES = [(3, 1, 1, 4), (3, 2, 3, 5), (1, 3, 2, 2)]  # kernel, stride, channels in and out
SIZES = [(8, 8, 8), (7, 5, 6), (1, 3, 2)]


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "c_in", "c_out"),
    [*((size, *shape) for size in SIZES for shape in SHAPES), ((7, 5, 6), 5, 2, 2, 3)],
)
def test_convolution_is_xlas(size, kernel, stride, c_in, c_out):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *size, c_in)).astype(np.float32)
    w = rng.normal(size=(kernel, kernel, kernel, c_in, c_out)).astype(np.float32)
    np.testing.assert_allclose(convolve(x, w, stride), _native(x, w, stride), rtol=1e-4, atol=1e-4)
    ours, theirs = (jax.grad(lambda x, w, f=f: (f(x, w, stride) ** 2).sum(), (0, 1))(x, w) for f in (convolve, _native))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(b).max())


def test_convolution_of_a_batch_of_weights():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(3, 2, 4, 4, 4, 2)).astype("f"), rng.normal(size=(3, 3, 3, 3, 2, 5)).astype("f")
    together = jax.vmap(lambda x, w: convolve(x, w, 2))(x, w)
    np.testing.assert_allclose(together[1], convolve(x[1], w[1], 2), rtol=1e-4, atol=1e-5)


def test_space_to_depth_keeps_every_voxel_in_its_cube():
    x = np.arange(2 * 4 * 4 * 6 * 1, dtype=np.float32).reshape(2, 4, 4, 6, 1)
    folded = np.asarray(space_to_depth(x, 2))
    assert folded.shape == (2, 2, 2, 3, 8)
    np.testing.assert_array_equal(np.sort(folded[1, 1, 0, 2]), np.sort(x[1, 2:4, 0:2, 4:6, 0].ravel()))
    assert space_to_depth(x[:, :3], 2).shape == (2, 2, 2, 3, 8)


def test_accelerators_get_the_native_convolution():
    x, w = np.zeros((1, 4, 4, 4, 1), "f"), np.zeros((3, 3, 3, 1, 2), "f")
    for platform, native in (("cpu", False), ("cuda", True), ("tpu", True)):
        text = jax.jit(lambda x, w: convolve(x, w, 1)).trace(x, w).lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.convolution" in text) is native
