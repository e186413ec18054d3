"""Features of a history at each query, as a row of numbers: those of TADPOLE's winner.

Marinescu et al. (2020). The Alzheimer's Disease Prediction Of Longitudinal Evolution (TADPOLE) challenge. MELBA 1.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from framework.history import at_origin, last_observed, rates
from framework.types import Arr, Column, Layout, Query, Scans, Visits

Block = tuple[Array, Array]  # features (b q k), and which of them are known


@partial(jax.jit, static_argnums=2)
def history_features(
    visits: Visits, query: Query, layout: Layout
) -> tuple[Float[Array, "b q f"], Bool[Array, "b q f"]]:
    """The features that `feature_names` names, and which of them are known; the others are 0.

    Of each number the last value, its last change a year (see `rates`), the lowest and the highest so far; of each
    class the last level and whether there was an earlier milder one (another one, where levels have no order); the
    years from each of these to the query. A variable that advances by itself (age) is given at the query alone. Scans
    of the layout are taken for embeddings. Nothing after a query's origin is read; the number of visits is no feature.
    """
    visits = jax.tree.map(jnp.asarray, visits)
    numbers, classes = _kinds(layout)
    places = jnp.array([column.index for column in numbers], int)
    seen = visits.values[..., places], _seen(visits)[..., places]
    blocks = [_years(visits, query), _numbers(*seen, visits, query, layout.resolution)]
    blocks += [_class(column, visits, query) for column in classes]
    blocks += [_embedded(visits.scans[name], visits, query) for name in layout.modalities]
    blocks += [_static(column, visits, query) for column in layout.static]
    blocks += [_known(place, column, query) for place, column in enumerate(layout.known)]
    x, observed = (jnp.concatenate(parts, -1) for parts in zip(*blocks, strict=True))
    return jnp.where(observed, x, 0), observed


def feature_names(layout: Layout) -> tuple[str, ...]:
    """Names of the features, in their order."""
    numbers, classes = _kinds(layout)
    names = ["years ahead", "years seen"]
    for what in ("", " a year", " lowest", " highest", " since", " since lowest", " since highest"):
        names += [column.name + what for column in numbers]
    for column in classes:
        names += [*_level_names(column), *(f"{column.name} {what}" for what in ("since", "milder", "since milder"))]
    for name, grid in zip(layout.modalities, layout.grids, strict=True):
        names += [f"{name} {i}{what}" for what in ("", " change") for i in range(grid[-1])] + [f"{name} since"]
    for column in layout.static:
        names += _level_names(column)
    for column in layout.known:
        names += [f"{name} then" for name in _level_names(column)]
    return tuple(names)


def last_value(visits: Visits, query: Query, index: int) -> tuple[Float[Array, "b q"], Bool[Array, "b q"]]:
    """A variable's last observation up to each query's origin, and whether there is one."""
    column = slice(index, index + 1)
    value, has, _ = last_observed(visits.values[..., column], _seen(visits)[..., column], visits.times)
    return at_origin(value, query)[..., 0], at_origin(has, query)[..., 0]


def _kinds(layout: Layout) -> tuple[list[Column], list[Column]]:
    """The numbers and the classes whose history gives features."""
    columns = [column for column in layout.inputs if column.per_year is None]
    return [c for c in columns if not c.classes], [c for c in columns if c.classes]


def _seen(visits: Visits) -> Bool[Array, "b t f"]:
    return jnp.asarray(visits.observed) & jnp.asarray(visits.valid)[..., None]


def _years(visits: Visits, query: Query) -> Block:
    origin = at_origin(visits.times, query)
    x = jnp.stack([query.time - origin, origin], -1)
    return x, jnp.ones_like(x, bool)


def _numbers(
    values: Float[Arr, "b t k"], observed: Bool[Arr, "b t k"], visits: Visits, query: Query, resolution: float
) -> Block:
    lows = observed & (values <= lax.cummin(jnp.where(observed, values, jnp.inf), axis=1))
    highs = observed & (values >= lax.cummax(jnp.where(observed, values, -jnp.inf), axis=1))
    ends = [_latest(values, event, visits, query) for event in (observed, lows, highs)]
    change, again = rates(values, observed, visits.times, resolution)
    rate = _latest(change, again, visits, query)
    (last, low, high), has = ((end[0] for end in ends), ends[0][1])
    x = [last, rate[0], low, high, *(end[2] for end in ends)]
    return jnp.concatenate(x, -1), jnp.concatenate([has, rate[1], *[has] * 5], -1)


def _changes(
    values: Float[Arr, "b t k"], observed: Bool[Arr, "b t k"], visits: Visits
) -> tuple[Float[Array, "b t k"], Bool[Array, "b t k"]]:
    """At each visit the change since the observation before, and whether there is one."""
    before = (jnp.pad(x[:, :-1], ((0, 0), (1, 0), (0, 0))) for x in last_observed(values, observed, visits.times))
    value, has, _ = before
    return jnp.where(observed, values, 0) - value, jnp.asarray(observed) & has


def _latest(
    values: Float[Arr, "b t k"], events: Bool[Arr, "b t k"], visits: Visits, query: Query
) -> tuple[Float[Array, "b q k"], Bool[Array, "b q k"], Float[Array, "b q k"]]:
    """At the last event up to each origin the value, whether there was one, and the years from it to the query."""
    value, has, when = (at_origin(x, query) for x in last_observed(values, events, visits.times))
    return value, has, jnp.asarray(query.time)[..., None] - when


def _class(column: Column, visits: Visits, query: Query) -> Block:
    """The last level, and the time since a state before it that was milder, or another where there is no order."""
    value, observed = visits.values[..., column.index, None], _seen(visits)[..., column.index, None]
    level, has, since = _latest(value, observed, visits, query)
    levels = jnp.arange(column.classes)
    _, was, ago = _latest(jnp.zeros(levels.shape) * value, observed & (value == levels), visits, query)
    earlier = was & ((levels < level) if column.ordered else (levels != level)) & has
    milder = earlier.any(-1, keepdims=True)
    ago = jnp.min(jnp.where(earlier, ago, jnp.inf), -1, keepdims=True)
    x, known = _levels(column, level, has)
    return (
        jnp.concatenate([x, since, milder.astype(x.dtype), ago], -1),
        jnp.concatenate([known, has, has, milder], -1),
    )


def _embedded(scans: Scans, visits: Visits, query: Query) -> Block:
    """The last embedding of a modality, its change from the one before, and the years since."""
    b, t = visits.times.shape
    row = jnp.where(scans.valid, scans.row, b)  # out of bounds, where nothing is written
    flat = scans.voxels.reshape(len(scans.voxels), -1)
    values = jnp.zeros((b, t, flat.shape[1])).at[row, scans.visit].set(flat, mode="drop")
    there = jnp.zeros((b, t), bool).at[row, scans.visit].set(True, mode="drop") & visits.valid
    observed = jnp.broadcast_to(there[..., None], values.shape)
    value, has, since = _latest(values, observed, visits, query)
    change, again = _changes(values, observed, visits)
    change, again, _ = _latest(change, again, visits, query)
    return jnp.concatenate([value, change, since[..., :1]], -1), jnp.concatenate([has, again, has[..., :1]], -1)


def _static(column: Column, visits: Visits, query: Query) -> Block:
    shape = (*query.time.shape, 1)
    value, observed = (
        jnp.broadcast_to(x[:, None, column.index, None], shape) for x in (visits.static, visits.static_observed)
    )
    return _levels(column, value, observed)


def _known(place: int, column: Column, query: Query) -> Block:
    """A future covariate as of the query."""
    value, has = (jnp.asarray(part)[..., place, None] for part in (query.known, query.future_observed))
    return _levels(column, value, has)


def _levels(column: Column, value: Float[Arr, "b q 1"], has: Bool[Arr, "b q 1"]) -> Block:
    """A number or an ordered level as it is, other levels as one flag each."""
    if not _flagged(column):
        return jnp.asarray(value), jnp.asarray(has)
    flags = (value == jnp.arange(column.classes)).astype(jnp.asarray(value).dtype)
    return flags, jnp.broadcast_to(has, flags.shape)


def _flagged(column: Column) -> bool:
    return column.classes > 2 and not column.ordered


def _level_names(column: Column) -> Sequence[str]:
    return [f"{column.name} is {level}" for level in range(column.classes)] if _flagged(column) else [column.name]
