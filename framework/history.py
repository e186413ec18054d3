"""Features known at each visit from that visit and those before it."""

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Inexact, Int, Shaped

from framework.types import Arr, Column, Query

WITHIN = 1e-4  # share of the longest follow-up by which rounding may exceed it


@jax.jit  # one program where it is asked outside one
def last_observed(
    values: Float[Arr, "b t f"], observed: Bool[Arr, "b t f"], times: Float[Arr, "b t"]
) -> tuple[Float[Array, "b t f"], Bool[Array, "b t f"], Float[Array, "b t f"]]:
    """The last observed value of each variable at each visit, whether there is one, and when it was (years).

    Where nothing was observed yet the value and the time are 0.
    """
    seen = lax.cummax(jnp.where(observed, jnp.arange(values.shape[1])[None, :, None], -1), axis=1)
    place = jnp.maximum(seen, 0)
    has = seen >= 0
    value = jnp.where(has, jnp.take_along_axis(jnp.where(observed, values, 0), place, axis=1), 0)
    time = jnp.where(has, jnp.take_along_axis(jnp.broadcast_to(times[..., None], values.shape), place, axis=1), 0)
    return value, has, time


@jax.jit
def rates(
    values: Float[Arr, "b t f"],
    observed: Bool[Arr, "b t f"],
    times: Float[Arr, "b t"],
    resolution: Float[Arr, ""] | float,
) -> tuple[Float[Array, "b t f"], Bool[Array, "b t f"]]:
    """The change a year at each observation that has one before it, and where there is one.

    It is counted from the last observation at least `resolution` years before. Where all lie nearer it is counted from
    the first, as the change times gap / resolution²: it vanishes with the gap, where the quotient of two measurement
    errors and a short gap would grow without bound.
    """
    visit, times = jnp.arange(values.shape[1]), jnp.asarray(times)
    gap = times[:, :, None] - times[:, None, :]
    apart = (visit[:, None] > visit) & (gap >= resolution)
    reference = jnp.where(apart, visit, -1).max(2)[..., None]
    last, has, when = (
        jnp.take_along_axis(part, jnp.maximum(reference, 0), 1) for part in last_observed(values, observed, times)
    )
    first = jnp.argmax(jnp.asarray(observed), axis=1)[:, None]
    far, begins = has & (reference >= 0), jnp.take_along_axis(jnp.where(observed, values, 0), first, 1)
    since = times[..., None] - jnp.where(far, when, jnp.take_along_axis(times[..., None], first, 1))
    change = jnp.where(observed, values, 0) - jnp.where(far, last, begins)
    again = jnp.asarray(observed) & (first < visit[:, None])
    unit = jnp.maximum(since, resolution)
    unit = jnp.where(unit > 0, unit, 1)
    return jnp.where(again, change / unit * (since / unit), 0), again


@jax.jit
def at_origin(series: Inexact[Arr, "s t ..."] | Bool[Arr, "s t ..."], query: Query) -> Array:
    """The entry of a per-visit series (s, t, ...) of the subject asked about, at each query's origin: (b, q, ...)."""
    series, origin = jnp.asarray(series), jnp.asarray(query.origin)
    if query.row is not None:
        return series[jnp.asarray(query.row)[:, None], origin]
    return jnp.take_along_axis(series, origin.reshape(*origin.shape, *(1,) * (series.ndim - 2)), axis=1)


def of_rows(series: Shaped[Array, "s ..."], row: Int[Arr, " b"] | None) -> Shaped[Array, "b ..."]:
    """Select from each subject's series the one that each row of a query asks about (`Query.row`)."""
    return series if row is None else series[row]


def asked_at_origin(query: Query, times: Float[Arr, "b t"], known: Sequence[Column]) -> Query:
    """The same queries at their origins: what advances by itself is taken back to there, a plan stays as it is."""
    origin = at_origin(times, query)
    ahead = jnp.maximum(jnp.where(query.valid, jnp.asarray(query.time) - origin, 0), 0)
    speed = jnp.array([column.per_year or 0.0 for column in known])
    return replace(query, time=origin, known=query.known - speed * ahead[..., None])


def exceeds(years: Float[np.ndarray, "..."], follow_up: Float[np.ndarray, "..."] | float) -> Bool[np.ndarray, "..."]:
    """Which horizons are longer than the follow-up, by more than rounding."""
    return years > follow_up * (1 + WITHIN)
