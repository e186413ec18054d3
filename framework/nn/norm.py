"""Group normalisation fused with the activation and pooling that follow it, to pass over memory as little as can be."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from framework.nn.native import calls, library
from framework.types import Arr

Window = tuple[int, ...]
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
    x = jnp.asarray(x)
    scale, bias = jnp.asarray(scale, x.dtype), jnp.asarray(bias, x.dtype)
    if not library.normalises() or x.dtype != jnp.float32:
        return _plain(x, scale, bias, groups, relu, pool)
    if x.ndim == 4:  # one slice thick
        return _by_kernel(x[:, None], scale, bias, groups, relu, (1, pool, pool))[:, 0]
    return _by_kernel(x, scale, bias, groups, relu, (pool,) * 3)


def _plain(x: Array, scale: Array, bias: Array, groups: int, relu: bool, pool: int | Window) -> Array:
    space = tuple(range(1, x.ndim - 1))
    grouped = (*x.shape[:1], groups, x.shape[-1] // groups)

    def moment(values: Array) -> Array:
        each = values.mean(space).reshape(grouped).mean(-1, keepdims=True)
        return jnp.broadcast_to(each, grouped).reshape(x.shape[0], *[1] * len(space), x.shape[-1])

    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))  # sums of half precision drown
    mean = moment(wide)
    spread = jax.lax.rsqrt(moment(jnp.square(wide - mean)) + EPSILON)
    y = ((wide - mean) * (spread * scale) + bias).astype(x.dtype)
    return max_pool(jax.nn.relu(y) if relu else y, pool)


def _fused(x: Array, scale: Array, bias: Array, groups: int, relu: bool, window: Window) -> Array:
    return jax.lax.platform_dependent(
        x,
        scale,
        bias,
        cpu=partial(calls.norm, how=_how(groups, relu, window)),
        default=partial(_plain, groups=groups, relu=relu, pool=window),
    )


def _forward(x: Array, scale: Array, bias: Array, groups: int, relu: bool, window: Window) -> tuple[Array, tuple]:
    native = partial(calls.norm_keep, how=_how(groups, relu, window))

    def plain(x: Array, scale: Array, bias: Array) -> tuple[Array, ...]:
        nothing = jax.eval_shape(native, x, scale, bias)[1:]
        return _plain(x, scale, bias, groups, relu, window), *(jnp.zeros(part.shape, part.dtype) for part in nothing)

    y, *kept = jax.lax.platform_dependent(x, scale, bias, cpu=native, default=plain)
    return y, (x, scale, bias, *kept)


def _backward(groups: int, relu: bool, window: Window, kept: tuple, dy: Array) -> tuple[Array, ...]:
    def plain(x: Array, scale: Array, bias: Array, found: Array, best: Array, where: Array, dy: Array) -> tuple:
        return jax.vjp(partial(_plain, groups=groups, relu=relu, pool=window), x, scale, bias)[1](dy)

    native = partial(calls.norm_backward, how=_how(groups, relu, window))
    return jax.lax.platform_dependent(*kept, dy, cpu=native, default=plain)


_by_kernel = jax.custom_vjp(_fused, nondiff_argnums=(3, 4, 5))
_by_kernel.defvjp(_forward, _backward)


def _how(groups: int, relu: bool, window: Window) -> calls.Attributes:
    return {"groups": np.int64(groups), "relu": np.bool_(relu), "pool": np.array(window, np.int64)}


def max_pool(x: Float[Arr, "n *space c"], window: int | Window) -> Float[Array, "n *out c"]:
    """The largest of each cube (or square) of `window` voxels a side, axis after axis.

    By comparisons that also route the slopes: XLA's own slope of a maximum asks which voxel equals it, and divides 0
    by 0 where a fusion computed the voxels again and rounded them otherwise.
    """
    x = jnp.asarray(x)
    sides = (window,) * (x.ndim - 2) if isinstance(window, int) else window
    for axis, side in reversed(list(enumerate(sides, start=1))):
        if side == 1:
            continue
        cut = jax.lax.slice_in_dim(x, 0, x.shape[axis] // side * side, axis=axis)
        cut = cut.reshape(*x.shape[:axis], x.shape[axis] // side, side, *x.shape[axis + 1 :])
        x, *others = (jax.lax.index_in_dim(cut, i, axis + 1, keepdims=False) for i in range(side))
        for other in others:
            x = jnp.where((other <= x) | jnp.isnan(x), x, other)  # NaN stays NaN
    return x
