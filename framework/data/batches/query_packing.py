"""Queries in short rows: otherwise every row would be as long as that of the subject with the most."""

from dataclasses import replace
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from framework.data.queries.examples import QuerySet
from framework.types import Arr, Query, Targets, pytree

Tree = TypeVar("Tree")
ROW = 2  # what a row costs, in queries


@pytree
class Packed:
    """The queries of a cohort, (g, q) instead of (n, q); a subject's own ones fill `count` rows from `first` on."""

    query: Query
    truth: Targets
    first: Int[Arr, " n"]
    count: Int[Arr, " n"]

    def of(
        self, subject: Int[Arr, " b"], real: Bool[Arr, " b"], slots: Int[Arr, " p"]
    ) -> tuple[Query, Targets, Bool[Array, " p"]]:
        """The rows of these subjects, as far as they fill the slots (numbered from 0), and which slots they fill."""
        counts = jnp.where(real, self.count[subject], 0)
        ends = jnp.cumsum(counts)
        slots = jnp.asarray(slots)
        filled = slots < ends[-1]
        row = jnp.minimum((ends <= slots[:, None]).sum(1), len(subject) - 1)
        place = self.first[subject[row]] + slots - (ends - counts)[row]
        query, truth = taken((self.query, self.truth), place, filled)
        return replace(query, row=row), truth, filled


def taken(tables: Tree, subject: Int[Arr, "*m b"], real: Bool[Arr, "*m b"]) -> Tree:
    """These subjects' rows of every table, zeros where one is not real; on the host, or of JAX arrays on the device."""

    def take(table: Arr) -> Arr:
        numpy = np if isinstance(table, np.ndarray) else jnp
        there = real.reshape(*real.shape, *[1] * (table.ndim - 1))
        return numpy.where(there, table[subject], numpy.zeros((), table.dtype))

    return jax.tree.map(take, tables)


def width(queries: QuerySet) -> int:
    """How many queries a row had best hold."""
    counts = np.asarray(queries.query.valid).sum(1)
    return min(range(1, max(2, counts.max() + 1)), key=lambda wide: rows_of(queries, wide).sum() * (wide + ROW))


def rows_of(queries: QuerySet, wide: int) -> Int[np.ndarray, " n"]:
    """How many rows of so many queries each subject fills."""
    return -(-np.asarray(queries.query.valid).sum(1) // wide)


def packed(queries: QuerySet, wide: int) -> Packed:
    """These queries in rows of so many."""
    subject, place = np.nonzero(queries.query.valid)
    count = rows_of(queries, wide)
    first = np.cumsum(count) - count
    number = np.arange(len(subject)) - np.searchsorted(subject, subject)  # among the subject's own
    row, column = first[subject] + number // wide, number % wide

    def moved(x: np.ndarray) -> np.ndarray:
        x = np.asarray(x)
        out = np.zeros((max(1, count.sum()), wide, *x.shape[2:]), x.dtype)
        out[row, column] = x[subject, place]
        return out

    query, truth = jax.tree.map(moved, (queries.query, queries.truth))
    return Packed(query, truth, first.astype(np.int32), count.astype(np.int32))
