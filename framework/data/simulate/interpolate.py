"""Trilinear interpolation of several maps at once, channels last."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.jit
def trilinear(
    maps: Float[Array, "x y z c"],
    points: Float[Array, "*n 3"],
    origin: Float[Array, "3"] | Float[Array, ""] | float = 0.0,
    spacing: Float[Array, ""] | float = 1.0,
) -> Float[Array, "*n c"]:
    """The maps at `points`, voxel (i, j, k) lying at `origin + spacing * (i, j, k)`; outside, the nearest face goes on.

    To be called from Python and not inside another jitted function: where one interpolation feeds the next, XLA
    fuses them on the CPU and computes the first again at each of the second's corners, ten times slower.
    """
    _, y, z, channels = maps.shape
    last = jnp.array(maps.shape[:3]) - 1
    at = jnp.clip((points - origin) / spacing, 0, last.astype(points.dtype))
    low = jnp.minimum(at.astype(jnp.int32), last - 1)
    right, back, up = jnp.moveaxis(at - low, -1, 0)
    flat = maps.reshape(-1, channels)
    first = (low[..., 0] * y + low[..., 1]) * z + low[..., 2]
    total = jnp.zeros((*at.shape[:-1], channels), maps.dtype)
    for i, weight_x in enumerate((1 - right, right)):
        for j, weight_y in enumerate((1 - back, back)):
            for k, weight_z in enumerate((1 - up, up)):
                corner = flat.at[first + ((i * y + j) * z + k)].get(mode="promise_in_bounds")
                total += (weight_x * weight_y * weight_z)[..., None] * corner
    return total
