"""A volume brought from its scanner's grid to a common one: upright (RAS), centred, smoothed before thinning."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, Int

BUCKET = 64
FWHM_PER_SIGMA = 2.3548200450309493  # 2 √(2 ln 2)


def to_grid(
    voxels: Float[np.ndarray, "i j k"],
    affine: Float[np.ndarray, "4 4"],
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    centre: Float[np.ndarray, " 3"] | None = None,
) -> Float[np.ndarray, "x y z"]:
    """`resample` for one volume of any shape: padded to a multiple of 64, so that few shapes are compiled."""
    pad = [(0, -n % BUCKET) for n in voxels.shape]
    size = np.array(voxels.shape, np.int32)
    middle = ((size - 1) / 2 if centre is None else centre).astype(np.float32)
    steps = affine.astype(np.float32), size, np.asarray(spacing, np.float32)
    return np.asarray(resample(np.pad(voxels, pad), *steps, tuple(shape), middle))


@partial(jax.jit, static_argnames="shape")
def resample(
    voxels: Float[Array, "i j k"] | Float[np.ndarray, "i j k"],
    affine: Float[Array, "4 4"] | Float[np.ndarray, "4 4"],
    size: Int[Array, "3"] | Int[np.ndarray, "3"],
    spacing: Float[Array, "3"] | Float[np.ndarray, "3"],
    shape: tuple[int, int, int],
    centre: Float[Array, "3"] | Float[np.ndarray, "3"] | None = None,
) -> Float[Array, "x y z"]:
    """Trilinear samples of `voxels` at a grid of `shape` and `spacing` (mm) along right, anterior, superior.

    The grid's centre is at the voxel index `centre`, by default the centre of the volume's own field of view: nothing
    is registered here. `affine` takes voxel indices to mm in RAS. Where the grid is coarser than the volume, each voxel
    axis is first smoothed by a Gaussian of FWHM² = (grid's spacing)² − (volume's spacing)², so that fine detail does
    not alias. Outside the volume is 0; zeros that pad its end, from `size` on, change nothing.
    """
    axes = affine[:3, :3]
    native = jnp.linalg.norm(axes, axis=0)
    # how far apart the grid's points are along the direction of each voxel axis
    wanted = jnp.linalg.norm(axes / native * spacing[:, None], axis=0)
    sigma = jnp.sqrt(jnp.maximum(wanted**2 - native**2, 0)) / FWHM_PER_SIGMA / native
    smooth = [_gaussian(n, size[axis], sigma[axis]) for axis, n in enumerate(voxels.shape)]
    voxels = jnp.einsum("ai,ijk->ajk", smooth[0], voxels, precision="highest")
    voxels = jnp.einsum("bj,ajk->abk", smooth[1], voxels, precision="highest")
    voxels = jnp.einsum("ck,abk->abc", smooth[2], voxels, precision="highest")

    steps = [(jnp.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]
    away = jnp.stack(jnp.meshgrid(*steps, indexing="ij"))  # mm from the common centre
    middle = (size - 1) / 2 if centre is None else centre
    indices = middle[:, None, None, None] + jnp.einsum("dr,rxyz->dxyz", jnp.linalg.inv(axes), away, precision="highest")
    return map_coordinates(voxels, list(indices), order=1, mode="constant")


def _gaussian(n: int, size: Int[Array, ""], sigma: Float[Array, ""]) -> Float[Array, "n n"]:
    """The matrix that smooths an axis of `n` voxels, the identity where sigma is 0; from `size` on the result is 0."""
    offsets = jnp.arange(n)
    kernel = jnp.exp(-0.5 * (offsets / jnp.maximum(sigma, 1e-3)) ** 2)
    kernel = kernel / (2 * kernel.sum() - kernel[0])
    return jnp.where(offsets[:, None] < size, kernel[jnp.abs(offsets[:, None] - offsets)], 0)
