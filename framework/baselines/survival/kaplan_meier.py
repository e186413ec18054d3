"""Kaplan and Meier's estimate: the share whom an event has not met by each time, though some are followed no longer.

Kaplan & Meier (1958). Nonparametric estimation from incomplete observations. JASA 53.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from framework.baselines.survival.cox import Survival
from framework.types import Arr, pytree


@pytree
class Curve:
    """The share left after each time, ascending; 1 before the first, flat behind the last."""

    time: Float[Array, " n"]
    left: Float[Array, " n"]

    def at(self, times: Float[Arr, "..."]) -> Float[Array, "..."]:
        place = jnp.searchsorted(self.time, jnp.asarray(times), side="right") - 1
        return jnp.where(place >= 0, self.left[jnp.maximum(place, 0)], 1)


def kaplan_meier(survival: Survival, weight: Float[Arr, " n"], censoring: bool = False) -> Curve:
    """The curve of the event, or of `censoring`: then events at the same time come first, and are at risk no more."""
    order = jnp.argsort(jnp.asarray(survival.time))
    time, event, weight = (jnp.asarray(part)[order] for part in (survival.time, survival.event, weight))
    first = jnp.searchsorted(time, time, side="left")
    gone = jax.ops.segment_sum(jnp.where(event, weight, 0), first, len(time))
    at_risk = jnp.cumsum(weight[::-1])[::-1]
    if censoring:
        at_risk = at_risk - gone
        gone = jax.ops.segment_sum(jnp.where(event, 0, weight), first, len(time))
    # each time counts once, at the first of its rows, where `gone` stands
    return Curve(time, jnp.cumprod(jnp.where(gone > 0, 1 - gone / jnp.where(gone > 0, at_risk, 1), 1)))


def right_censored(lo: Float[Arr, "..."], hi: Float[Arr, "..."]) -> Survival:
    """An event in (lo, hi] as one at the middle; one that had not come by lo (hi = inf) as censored there."""
    lo, hi = jnp.asarray(lo), jnp.asarray(hi)
    came = jnp.isfinite(hi)
    return Survival(jnp.where(came, (lo + jnp.where(came, hi, lo)) / 2, lo), came)
