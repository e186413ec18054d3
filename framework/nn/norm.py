"""Group normalisation with what follows it (activation, pooling), in as few passes over memory as there can be."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from framework.types import Arr

EPSILON = 1e-5


def group_norm(
    x: Float[Arr, "n *space c"],
    scale: Float[Arr, " c"],
    bias: Float[Arr, " c"],
    groups: int,
    *,
    relu: bool = False,
    pool: int = 1,
) -> Float[Array, "n *out c"]:
    """Normalise each group of channels of each scan (Wu & He 2018), then rectify, then take the largest of each
    `pool`-sided window; what does not fill a last window is left out.
    """
    space = tuple(range(1, x.ndim - 1))
    grouped = (*x.shape[:1], groups, x.shape[-1] // groups)

    def moment(values: Array) -> Array:
        each = values.mean(space).reshape(grouped).mean(-1, keepdims=True)
        return jnp.broadcast_to(each, grouped).reshape(x.shape[0], *[1] * len(space), x.shape[-1])

    x = jnp.asarray(x)
    mean = moment(x)
    spread = jax.lax.rsqrt(moment(jnp.square(x - mean)) + EPSILON)
    y = (x - mean) * (spread * scale) + bias
    y = jax.nn.relu(y) if relu else y
    return max_pool(y, pool)


def max_pool(x: Float[Array, "n *space c"], window: int) -> Float[Array, "n *out c"]:
    """The largest of each cube (or square) of `window` voxels a side."""
    if window == 1:
        return x
    n, *space, c = x.shape
    size = [length // window for length in space]
    x = x[(slice(None), *(slice(0, s * window) for s in size))]
    split = [part for s in size for part in (s, window)]
    return x.reshape(n, *split, c).max(tuple(range(2, 2 + 2 * len(size), 2)))
