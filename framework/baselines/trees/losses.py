"""Losses of boosting: values and derivatives at raw scores, initial scores, and predictions."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32

from framework import scores
from framework.types import Arr


@dataclass(frozen=True)
class Loss:
    """`init_score(y, weight)` is the best constant (k); `gradients(raw, y)` both derivatives (n, k); `value` a row's
    loss; `predict` the predictions (n, p). Where there are `levels`, leaves are renewed to quantiles of residuals.
    """

    init_score: Callable[[Array, Array], Array]
    gradients: Callable[[Array, Array], tuple[Array, Array]]
    value: Callable[[Array, Array], Array]
    predict: Callable[[Array], Array]
    levels: tuple[float, ...] = ()


def squared() -> Loss:
    """Half the squared error."""
    return Loss(
        init_score=lambda y, weight: _mean(y, weight)[None],
        gradients=lambda raw, y: (raw - y[:, None], jnp.ones_like(raw)),
        value=lambda raw, y: 0.5 * (raw[:, 0] - y) ** 2,
        predict=lambda raw: raw,
    )


def pinball(levels: tuple[float, ...]) -> Loss:
    """The quantile loss of each level, their mean over the levels; answers ascend."""
    at = np.array(levels, np.float32)

    def init_score(y: Array, weight: Array) -> Array:
        same = jnp.zeros(len(y), jnp.int32)
        return jnp.stack([quantiles(y, weight, same, 1, level)[0] for level in levels])

    return Loss(
        init_score=init_score,
        gradients=lambda raw, y: (
            jnp.where(y[:, None] > raw, -at, jnp.where(y[:, None] < raw, 1 - at, 0)),
            jnp.ones_like(raw),
        ),
        value=lambda raw, y: scores.pinball(raw, y, levels).mean(-1),
        predict=lambda raw: jnp.sort(raw, -1),
        levels=levels,
    )


def absolute() -> Loss:
    """The absolute error: twice the quantile loss of the median."""
    half = pinball((0.5,))
    return Loss(half.init_score, half.gradients, lambda raw, y: jnp.abs(raw[:, 0] - y), half.predict, half.levels)


def logistic() -> Loss:
    """The log loss of two levels, through the log odds of the second."""

    def gradients(raw: Array, y: Array) -> tuple[Array, Array]:
        p = jax.nn.sigmoid(raw)
        return p - y[:, None], p * (1 - p)

    def init_score(y: Array, weight: Array) -> Array:
        share = jnp.clip(_mean(y, weight), 1e-6, 1 - 1e-6)
        return jnp.log(share / (1 - share))[None]

    return Loss(
        init_score=init_score,
        gradients=gradients,
        value=lambda raw, y: jax.nn.softplus(jnp.where(y > 0, -raw[:, 0], raw[:, 0])),
        predict=lambda raw: jax.nn.sigmoid(jnp.concatenate([-raw, raw], -1)),
    )


def softmax(classes: int) -> Loss:
    """The log loss of any number of levels, a score for each."""

    def one_hot(y: Array) -> Array:
        return (y[:, None] == jnp.arange(classes)).astype(jnp.float32)

    def gradients(raw: Array, y: Array) -> tuple[Array, Array]:
        p = jax.nn.softmax(raw)
        return p - one_hot(y), p * (1 - p)

    return Loss(
        init_score=lambda y, weight: jnp.log(jnp.clip(jax.vmap(_mean, (1, None))(one_hot(y), weight), 1e-6, 1)),
        gradients=gradients,
        value=lambda raw, y: scores.cross_entropy(jax.nn.log_softmax(raw), y),
        predict=jax.nn.softmax,
    )


def whole(values: Float[Arr, " n"], bits: int = 30) -> tuple[Int32[Array, " n"], Float[Array, ""]]:
    """The values in whole units, and how many units are 1: a power of two, so that they sum to 2^bits or less."""
    _, exponent = jnp.frexp(jnp.abs(values).sum())
    scale = jnp.ldexp(jnp.float32(1), jnp.clip(bits - exponent, -100, 100))
    return jnp.round(values * scale).astype(jnp.int32), scale


def quantiles(
    values: Float[Arr, " n"],
    weight: Float[Arr, " n"],
    group: Int[Arr, " n"],
    groups: int,
    level: float | Float[Arr, ""],
) -> Float[Array, " g"]:
    """The weighted quantile of each group's values, midway where it lies between two; 0 where the group is empty."""
    units, _ = whole(weight, 24)
    group = jnp.where(units > 0, group, groups).astype(jnp.int32)
    _, ordered, units = jax.lax.sort((group, jnp.where(units > 0, values, 0), units), num_keys=2)
    totals = jnp.zeros(groups + 1, jnp.int32).at[group].add(whole(weight, 24)[0])[:groups]
    before, upto = jnp.cumsum(totals) - totals, jnp.cumsum(units)
    share = totals * jnp.asarray(level, jnp.float32)
    low = jnp.clip(jnp.ceil(share), 1, totals).astype(jnp.int32)
    high = jnp.clip(jnp.floor(share) + 1, 1, totals).astype(jnp.int32)
    at = [jnp.minimum(jnp.searchsorted(upto, before + part), len(values) - 1) for part in (low, high)]
    return jnp.where(totals > 0, 0.5 * ordered[at[0]] + 0.5 * ordered[at[1]], 0)


def _mean(y: Array, weight: Array) -> Array:
    return (y * weight).sum() / weight.sum()
