"""Scoring rules: losses of single forecasts, which networks minimise, forecasters select by and metrics average.

NumPy arrays are scored by NumPy in their own precision, all others by JAX. The smaller a loss, the better.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Real

from framework.types import LEVELS, Arr

LEAST_PROBABILITY = 1e-6  # lower bound of probabilities in log losses: a certain error costs 13.8, not infinity


def pinball(
    quantiles: Float[Arr, "*b l"], truth: Real[Arr, "*b"], levels: Sequence[float] = LEVELS
) -> Float[Any, "*b l"]:
    """Quantile loss of each level a: a (y - q) where the truth y lies above q, (1 - a) (q - y) where it lies below.

    Koenker & Bassett 1978. The mean over evenly spread levels is about half the continuous ranked probability score.
    """
    space = np if isinstance(quantiles, np.ndarray) else jnp
    error, level = truth[..., None] - quantiles, space.asarray(levels)
    return space.maximum(level * error, (level - 1) * error)


def crps(quantiles: Float[Arr, "q l"], truth: Real[Arr, " q"]) -> Float[Array, " q"]:
    """Continuous ranked probability score of the law that quantiles at `LEVELS` describe; of a point, its distance.

    Its quantile function Q is linear between the levels and constant beyond the outermost. The score is
    E|X - y| - E|X - X'|/2 (Gneiting & Raftery 2007, Eq. 21), the second of which is the integral of (2a - 1) Q(a) over
    the levels a.
    """
    level = jnp.array((0.0, *LEVELS, 1.0))
    from_truth = jnp.pad(quantiles - truth[:, None], ((0, 0), (1, 1)), mode="edge")
    low, high, start, stop = from_truth[:, :-1], from_truth[:, 1:], level[:-1], level[1:]
    width = jnp.where(high > low, high - low, 1)
    inside = jnp.where((low < 0) & (high > 0), (low**2 + high**2) / (2 * width), jnp.abs(low + high) / 2)
    # of (2a - 1) times a linear function, exactly: Simpson's rule
    middle = (low + high) / 2 * (start + stop - 1)
    spread = (low * (2 * start - 1) + 4 * middle + high * (2 * stop - 1)) / 6
    return jnp.sum((stop - start) * (inside - spread), axis=1)


def log_loss(probs: Float[Arr, "*b c"], level: Real[Arr, "*b"], least: float = LEAST_PROBABILITY) -> Float[Any, "*b"]:
    """Negative logarithm of the true level's probability, `least` at the lowest, in nats (Good 1952)."""
    space = np if isinstance(probs, np.ndarray) else jnp
    return -space.log(space.maximum(_given(probs, level), least))


def cross_entropy(log_probs: Float[Arr, "*b c"], level: Real[Arr, "*b"]) -> Float[Any, "*b"]:
    """Log loss from logarithms of probabilities, which keep their digits where a probability is near 0."""
    return -_given(log_probs, level)


def brier(probs: Float[Arr, "*b c"], level: Real[Arr, "*b"]) -> Float[Array, "*b"]:
    """Squared distance between probabilities and the outcome, summed over all levels (Brier 1950): 0 to 2."""
    return jnp.sum((probs - jax.nn.one_hot(level.astype(int), probs.shape[-1])) ** 2, axis=-1)


def ordinal_log_probs(cuts: Float[Array, "..."], widths: Float[Array, "..."], axis: int = -1) -> Float[Array, "..."]:
    """Logarithms of the probabilities of ordered levels, of P(y <= k) = sigmoid(cut k) (McCullagh 1980).

    `cuts` ascend along `axis`, one fewer than the levels; `widths` are the distances between neighbours, above 0. Their
    `cross_entropy` is the loss of cumulative logits. sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a))
    loses no digits where both are near 1.
    """
    below, above, last = jax.nn.log_sigmoid(cuts), jax.nn.log_sigmoid(-cuts), cuts.shape[axis] - 1
    upper, lower = lax.slice_in_dim(below, 1, None, axis=axis), lax.slice_in_dim(above, 0, last, axis=axis)
    first, final = lax.slice_in_dim(below, 0, 1, axis=axis), lax.slice_in_dim(above, last, None, axis=axis)
    return jnp.concatenate([first, upper + lower + jnp.log(-jnp.expm1(-widths)), final], axis=axis)


def interval_censored(
    cumulative: Callable[[Float[Arr, "*b"]], Float[Array, "..."]], lo: Float[Arr, "*b"], hi: Float[Arr, "*b"]
) -> Float[Array, "..."]:
    """Negative log-likelihood of an event in (lo, hi], S(lo) - S(hi), or after lo, S(lo), where hi is infinite.

    The likelihood of interval-censored times (Turnbull 1976) under the `cumulative` hazard H of a time, S = exp(-H):
    H(lo) - log(1 - exp(H(lo) - H(hi))). Of hazards that are constant within stretches it is that of Gensheimer &
    Narasimhan 2019.
    """
    came = jnp.isfinite(hi)
    before, until = cumulative(lo), cumulative(jnp.where(came, hi, lo + 1))
    tiny = jnp.finfo(before.dtype).tiny
    return before - jnp.where(came, jnp.log(-jnp.expm1(-jnp.maximum(until - before, tiny))), 0)


def _given(of_levels: Float[Any, "*b c"], level: Real[Any, "*b"]) -> Float[Any, "*b"]:
    """Entry of the true level."""
    space = np if isinstance(of_levels, np.ndarray) else jnp
    return space.take_along_axis(of_levels, level.astype(int)[..., None], axis=-1)[..., 0]
