"""How near two people's measurements are: their first values and the changes from visit to visit.

Only numbers most of which are distinct can tell people apart; coarse scores and levels agree by chance. A change is a
cell of its own, because a person's values go along with each other.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import gammainc, gammaln

from framework.data.cohort.store import Cohort

VISITS = 8  # that are compared, from the first
CELLS = 6  # numbers that somebody must have to be compared


@dataclass(frozen=True)
class Cells:
    """The k numbers of each of n subjects in units of their spread, and how finely each was recorded."""

    value: Float[np.ndarray, "n k"]
    observed: Bool[np.ndarray, "n k"]
    grain: Float[np.ndarray, " k"]


def cells(cohort: Cohort, rows: Int[np.ndarray, " n"]) -> Cells:
    """The comparable numbers of these subjects: visit variables, static ones and the times of visits."""
    made = [one for table, observed in _numbers(cohort, rows) if (one := _scaled(table, observed)) is not None]
    if not made:
        empty = np.zeros((len(rows), 0))
        return Cells(empty, empty > 0, empty[0] if len(rows) else np.zeros(0))
    return Cells(*(np.concatenate(part, axis=-1) for part in zip(*made, strict=True)))


def table_similarity(table: Cells) -> Float[np.ndarray, "n n"]:
    """The logarithm of the chance that two people who have nothing to do with each other are so near.

    Reckoned as if table were independent and normal, which scales it by a factor that does not matter here. A cell that
    one of the two lacks is as far apart as any.
    """
    x, seen = np.where(table.observed, table.value, 0), table.observed.astype(float)
    square = (x**2) @ seen.T
    apart = square + square.T - 2 * x @ x.T + (seen * table.grain**2 / 6) @ seen.T
    both = seen @ seen.T
    either = seen.sum(1)[:, None] + seen.sum(1) - both
    half, z = either / 2, np.maximum(apart + 2 * (either - both), 1e-12) / 4
    chance = gammainc(half, z)
    least = half * np.log(z) - z - gammaln(half + 1)  # of the series of the incomplete gamma function, its first term
    return np.where(chance > 1e-290, np.log(np.maximum(chance, 1e-290)), least)


def _numbers(cohort: Cohort, rows: Int[np.ndarray, " n"]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Tables (n, k) of one kind of number each, with what of them is there."""
    valid = cohort.valid[rows, :VISITS]
    both = valid[:, 1:] & valid[:, :-1]
    yield np.diff(cohort.times[rows, :VISITS], axis=1), both
    for place, variable in enumerate(cohort.schema.variables):
        if not variable.levels and not {"hindsight", "date"} & set(variable.roles):
            value, seen = cohort.values[rows, :VISITS, place], cohort.observed[rows, :VISITS, place] & valid
            yield value[:, :1], seen[:, :1]
            if variable.per_year is None:  # what advances by itself tells the times once more
                yield np.diff(value, axis=1), seen[:, 1:] & seen[:, :-1]
    for place, variable in enumerate(cohort.schema.static):
        if not variable.levels and not {"hindsight", "date"} & set(variable.roles):
            yield cohort.static[rows, place : place + 1], cohort.static_observed[rows, place : place + 1]


def _scaled(value: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """In units of their spread; nothing where most numbers are some other's too."""
    own = np.sort(np.round(value[observed], 9))
    gaps = np.diff(own)
    if len(own) < 3 or (gaps > 0).sum() + 1 < len(own) / 2:
        return None
    spread = own.std()
    grain = np.full(value.shape[1], gaps[gaps > 0].min() / spread)
    return (value - own.mean()) / spread, observed, grain
