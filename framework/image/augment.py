"""Training scans varied in ways that leave the anatomy what it is, on the device, inside the step."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from framework.types import Scans


@dataclass(frozen=True)
class Augment:
    """Whole-voxel shifts up to `shift` an axis, the same for all visits of a subject, and for each scan a smooth
    shading: the sd of its logarithm at the edge of the field is `shading`.
    """

    shift: int
    shading: float

    def __call__(self, scans: Scans, key: Key[Array, ""]) -> Scans:
        for_shift, for_shading = jax.random.split(key)
        keys = jax.vmap(lambda row: jax.random.fold_in(for_shift, row))(scans.row)
        moved = jax.vmap(self._shifted)(jnp.asarray(scans.voxels), keys)
        slopes = self.shading * jax.random.normal(for_shading, (len(scans.row), 3))
        return replace(scans, voxels=moved * jax.vmap(_shading, (0, None))(slopes, scans.voxels.shape[1:4])[..., None])

    def _shifted(self, voxels: Float[Array, "x y z c"], key: Key[Array, ""]) -> Float[Array, "x y z c"]:
        by = jax.random.randint(key, (3,), -self.shift, self.shift + 1)
        padded = jnp.pad(voxels, [(self.shift, self.shift)] * 3 + [(0, 0)])
        return jax.lax.dynamic_slice(padded, (*(self.shift + by), 0), voxels.shape)


def _shading(slopes: Float[Array, " 3"], shape: tuple[int, ...]) -> Float[Array, "x y z"]:
    x, y, z = (slope * jnp.linspace(-1, 1, n) for slope, n in zip(slopes, shape, strict=True))
    return jnp.exp(x[:, None, None] + y[None, :, None] + z[None, None, :])
