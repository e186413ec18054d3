"""Resampling against SciPy, and by its laws: identity, orientation, padding, a linear ramp."""

import jax
import numpy as np
import pytest
from scipy.ndimage import affine_transform, gaussian_filter

from framework.image.resample import resample, to_grid

RNG = np.random.default_rng(0)
VOLUME = RNG.normal(size=(20, 24, 17)).astype(np.float32)
ROTATION, _ = np.linalg.qr(RNG.normal(size=(3, 3)))


def affine(axes: np.ndarray, origin=(0.0, 0.0, 0.0)) -> np.ndarray:
    return np.block([[axes, np.reshape(origin, (3, 1))], [np.zeros((1, 3)), 1.0]])


def scipy_resample(voxels, matrix, shape, spacing):
    """The same definition, by SciPy."""
    axes = matrix[:3, :3]
    native = np.linalg.norm(axes, axis=0)
    wanted = np.linalg.norm(np.diag(spacing) @ axes / native, axis=0)
    sigma = np.sqrt(np.maximum(wanted**2 - native**2, 0)) / np.sqrt(8 * np.log(2)) / native
    smooth = gaussian_filter(voxels.astype(np.float64), sigma, mode="constant", truncate=12)
    step = np.linalg.inv(axes) @ np.diag(spacing)
    offset = (np.array(voxels.shape) - 1) / 2 - step @ (np.array(shape) - 1) / 2
    return affine_transform(smooth, step, offset, shape, order=1, mode="grid-constant")


@pytest.mark.parametrize(
    ("axes", "shape", "spacing"),
    [
        (np.diag([1.0, 1.0, 1.0]), (9, 10, 11), (2.5, 2.5, 2.5)),  # thinned
        (np.diag([0.7, 0.7, 4.0]), (16, 16, 40), (1.0, 1.0, 1.0)),  # thick slices, larger than the volume
        (ROTATION @ np.diag([1.0, 0.5, 2.0]), (12, 12, 12), (3.0, 2.0, 1.0)),  # oblique
    ],
)
def test_it_is_what_scipy_makes_of_it(axes, shape, spacing):
    matrix = affine(axes, (10.0, -20.0, 5.0))
    np.testing.assert_allclose(
        to_grid(VOLUME, matrix, shape, spacing), scipy_resample(VOLUME, matrix, shape, spacing), atol=2e-5
    )


def test_its_own_grid_changes_nothing():
    np.testing.assert_allclose(
        to_grid(VOLUME, affine(np.diag([1.0, 2.0, 3.0])), (20, 24, 17), (1.0, 2.0, 3.0)), VOLUME, atol=1e-5
    )


@pytest.mark.parametrize("flips", [(True, True, False), (True, False, False), (True, True, True)])
def test_orientation_is_no_matter(flips):
    """A volume stored as LPS is the volume stored as RAS."""
    signs = np.where(flips, -1.0, 1.0)
    flipped = np.flip(VOLUME, np.flatnonzero(flips))
    one = to_grid(VOLUME, affine(np.diag([1.0, 1.2, 2.0])), (10, 10, 10), (3.0, 3.0, 3.0))
    other = to_grid(flipped, affine(np.diag([1.0, 1.2, 2.0] * signs), (99.0, 0.0, 0.0)), (10, 10, 10), (3.0, 3.0, 3.0))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_axes_in_another_order_are_no_matter():
    one = to_grid(VOLUME, affine(np.diag([1.0, 1.2, 2.0])), (10, 10, 10), (3.0, 3.0, 3.0))
    other = to_grid(
        VOLUME.transpose(2, 0, 1), affine(np.diag([1.0, 1.2, 2.0])[:, [2, 0, 1]]), (10, 10, 10), (3.0, 3.0, 3.0)
    )
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_ramp_in_the_world_stays_that_ramp():
    """Millimetres to the right, measured from the centre, are reproduced where the kernel stays inside."""
    axes = ROTATION @ np.diag([1.0, 1.0, 1.0])
    centre = (np.array([40, 40, 40]) - 1) / 2
    index = np.stack(np.meshgrid(*[np.arange(40)] * 3, indexing="ij"), -1) - centre
    ramp = (index @ axes.T)[..., 0].astype(np.float32)
    out = to_grid(ramp, affine(axes), (5, 5, 5), (2.0, 2.0, 2.0))
    np.testing.assert_allclose(out, np.broadcast_to(((np.arange(5) - 2) * 2.0)[:, None, None], out.shape), atol=1e-4)


def test_thinning_does_not_alias():
    """Alternating voxels average out instead of becoming a pattern of their own."""
    stripes = np.broadcast_to((-1.0) ** np.arange(64), (64, 64, 64)).astype(np.float32)
    out = to_grid(stripes, affine(np.eye(3)), (8, 8, 8), (4.0, 4.0, 4.0))
    assert np.abs(out).max() < 0.01


def test_padding_and_batching_change_nothing():
    arguments = np.eye(4, dtype=np.float32), np.array([20, 24, 17], np.int32), np.full(3, 2.0, np.float32)
    plain = resample(VOLUME, *arguments, (8, 8, 8))
    padded = np.pad(VOLUME, [(0, 5), (0, 1), (0, 9)])
    np.testing.assert_allclose(resample(padded, *arguments, (8, 8, 8)), plain, atol=1e-5)
    many = jax.vmap(lambda voxels: resample(voxels, *arguments, (8, 8, 8)))(np.stack([VOLUME, -VOLUME]))
    np.testing.assert_allclose(many, np.stack([plain, -plain]), atol=1e-5)
