"""The CPU's convolution against XLA's own, values and gradients."""

import jax
import numpy as np
import pytest

from framework.nn import matmul_conv
from framework.nn.conv import convolve, space_to_depth

CASES = [  # size, kernel, stride, padding, channels in and out
    ((8, 8, 8), 3, 1, None, 1, 4),
    ((8, 8, 8), 3, 2, None, 3, 5),
    ((7, 5, 6), 3, 2, None, 3, 5),
    ((7, 5, 6), 5, 2, None, 2, 3),
    ((7, 5, 6), 2, 1, 1, 2, 3),
    ((7, 5, 6), 4, 3, 0, 1, 2),
    ((1, 3, 2), 1, 3, None, 2, 2),
    ((9, 8), 3, 2, None, 3, 4),
    ((6, 7), 4, 1, 2, 1, 2),
]


def xlas(x, w, stride, padding):
    space = "XYZ"[: x.ndim - 2]
    layout = (f"N{space}C", f"{space}IO", f"N{space}C")
    pads = [(k // 2 if padding is None else padding,) * 2 for k in w.shape[:-2]]
    return jax.lax.conv_general_dilated(x, w, (stride,) * len(space), pads, dimension_numbers=layout)


def by_products(x, w, stride, padding):
    """What a CPU without oneDNN does."""
    pads = tuple((k // 2 if padding is None else padding,) * 2 for k in w.shape[:-2])
    if x.ndim == 4:
        return matmul_conv.convolve(x[:, None], w[None], (1, stride, stride), ((0, 0), *pads))[:, 0]
    return matmul_conv.convolve(x, w, (stride,) * 3, pads)


@pytest.mark.parametrize("form", [convolve, by_products])
@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "c_in", "c_out"), CASES)
def test_convolution_is_xlas(form, size, kernel, stride, padding, c_in, c_out):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *size, c_in)).astype(np.float32)
    w = rng.normal(size=(*(kernel,) * len(size), c_in, c_out)).astype(np.float32)

    def values_and_gradients(f):
        def loss(x, w):
            y = f(x, w, stride, padding)
            return (y**2).sum(), y

        (_, y), gradients = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(x, w)
        return y, *gradients

    for ours, theirs in zip(*(values_and_gradients(f) for f in (form, xlas)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5 * np.abs(theirs).max())


def test_convolution_of_a_batch_of_weights():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(3, 2, 4, 4, 4, 2)).astype("f"), rng.normal(size=(3, 3, 3, 3, 2, 5)).astype("f")
    for stride in (1, 2):
        for form in (convolve, by_products):
            together = jax.jit(jax.vmap(lambda x, w, form=form, stride=stride: form(x, w, stride, None)))(x, w)
            np.testing.assert_allclose(together[1], xlas(x[1], w[1], stride, None), rtol=1e-4, atol=1e-5)


def test_space_to_depth_keeps_every_voxel_in_its_cube():
    x = np.arange(2 * 4 * 4 * 6 * 1, dtype=np.float32).reshape(2, 4, 4, 6, 1)
    folded = np.asarray(space_to_depth(x, 2))
    assert folded.shape == (2, 2, 2, 3, 8)
    np.testing.assert_array_equal(np.sort(folded[1, 1, 0, 2]), np.sort(x[1, 2:4, 0:2, 4:6, 0].ravel()))
    assert space_to_depth(x[:, :3], 2).shape == (2, 2, 2, 3, 8)


def test_accelerators_get_xlas_own():
    x, w = np.zeros((1, 4, 4, 4, 1), "f"), np.zeros((3, 3, 3, 1, 2), "f")
    for platform, xla in (("cpu", False), ("cuda", True), ("tpu", True)):
        text = jax.jit(lambda x, w: convolve(x, w, 1)).trace(x, w).lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.convolution" in text) is xla
