"""Batches of static shape, and the order in which they come.

The order is a function of (seed, epoch) and the member's own subjects alone, so a run goes on where it
stopped, and a fold trained beside others sees the very batches it would see alone.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from threading import Lock
from typing import SupportsInt, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from framework.data.batches.normalise import scaled
from framework.data.batches.query_packing import Packed, packed, rows_of, taken, width
from framework.data.batches.scan_cache import ScanCache
from framework.data.queries.examples import Examples, QuerySet
from framework.errors import UserError
from framework.types import Arr, Query, Scans, Targets, Visits, pytree

Rows = Collection[SupportsInt]  # places of subjects in the cohort
Prepare = Callable[[str, np.ndarray], np.ndarray]
Tree = TypeVar("Tree")
QUERIES = None  # what takes room in a batch beside the scans of each modality, by name


@pytree
class Placed:
    """Scans of one modality, referred to by their place in a table that stays on the device."""

    place: Int[Arr, " n"]
    row: Int[Arr, " n"]
    visit: Int[Arr, " n"]
    valid: Bool[Arr, " n"]

    def read(self, table: Float[Arr, "s x y z c"]) -> Scans:
        return Scans(jnp.take(jnp.asarray(table), self.place, axis=0), self.row, self.visit, self.valid)


@pytree
class Tables:
    """Tables that stay on the device: histories and queries of every subject, and the scans of some modalities.

    A batch has as many rows of queries as there are `slots`; `answers` counts what is observed of each target.
    """

    visits: Visits
    train_queries: Packed
    eval_queries: Packed
    answers: Int[Array, "n k"]
    slots: Int[Array, " p"]
    scans: Mapping[str, Float[Array, "s x y z c"]]


@pytree
class Batch:
    """Histories of a few subjects, and rows of queries and answers; `weight` 0 marks a row of padding."""

    visits: Visits
    query: Query
    truth: Targets
    weight: Float[Array | np.ndarray, " p"]
    placed: Mapping[str, Placed] = field(default_factory=dict)

    def seen(self, tables: Tables) -> Visits:
        """The visits, with the scans that lie on the device read from its tables."""
        read = {name: placed.read(tables.scans[name]) for name, placed in self.placed.items()}
        return replace(self.visits, scans={**self.visits.scans, **read})


@pytree
class Drawn:
    """Whom a batch is of; `weight` 0 marks padding. It is sent to the device in place of what lies there already."""

    subject: Int[Array | np.ndarray, "*m b"]
    weight: Float[Array | np.ndarray, "*m b"]
    scans: Mapping[str, Scans]
    placed: Mapping[str, Placed]

    def read(self, tables: Tables, queries: Packed) -> Batch:
        """The batch, with these queries of the tables."""
        subject, weight = jnp.asarray(self.subject), jnp.asarray(self.weight)
        visits = replace(taken(tables.visits, subject, weight > 0), scans=self.scans)
        query, truth, filled = queries.of(subject, weight > 0, tables.slots)
        return Batch(visits, query, truth, jnp.where(filled, weight[query.row], 0), self.placed)

    def answers(self, tables: Tables) -> Float[Array, " k"]:
        """How many answers each target has, weighted by subject."""
        each = jnp.asarray(self.weight)[..., None] * tables.answers[jnp.asarray(self.subject)]
        return each.reshape(-1, each.shape[-1]).sum(0)


@dataclass(frozen=True)
class Size:
    """The static shape of a batch: subjects, packed scans of each modality, rows of queries where they are packed."""

    subjects: int
    scans: Mapping[str, int]
    rows: int | None = None

    @property
    def room(self) -> Mapping[str | None, int]:
        return {**self.scans} if self.rows is None else {QUERIES: self.rows, **self.scans}


class Order:
    """The batches of some rows one after another, reshuffled each epoch: `order[number]` is its rows."""

    def __init__(self, loader: "Loader", rows: Rows, size: Size, seed: Sequence[int]):
        self._loader, self._rows, self._size, self._seed = loader, np.asarray(rows, int), size, seed
        self._epoch = lru_cache(4)(self._packed)
        self._starts, self._lock = [0], Lock()  # the number of each epoch's first batch

    def __getitem__(self, number: int) -> list[int]:
        with self._lock:
            while self._starts[-1] <= number:
                self._starts.append(self._starts[-1] + len(self._epoch(len(self._starts) - 1)))
            epoch = bisect_right(self._starts, number) - 1
            return self._epoch(epoch)[number - self._starts[epoch]]

    def _packed(self, epoch: int) -> list[list[int]]:
        order = np.random.default_rng([*self._seed, epoch]).permutation(self._rows)
        return list(self._loader.pack(order, self._size))


class Loader:
    """Builds batches from a cohort, keeping prepared scans in memory up to `cache_bytes`.

    `prepare(modality, voxels)` makes of a scaled scan what its modality's grid in the layout says.
    """

    def __init__(self, examples: Examples, cache_bytes: int = 2 << 30, prepare: Prepare | None = None):
        self.examples = examples
        cohort, layout = examples.cohort, examples.layout
        self._counts = {name: cohort.present[name].sum(1) for name in layout.modalities}

        def read(modality: str, subject: int, visit: int) -> Float[np.ndarray, "x y z c"]:
            """One scan from disk, prepared."""
            voxels = scaled(cohort, modality, subject, visit)
            return voxels if prepare is None else prepare(modality, voxels)

        self.read, self._prepared = read, ScanCache(read, cache_bytes)

    @cached_property
    def _width(self) -> int:
        return width(self.examples.train_queries)

    @cached_property
    def _needs(self) -> Mapping[str | None, Int[np.ndarray, " n"]]:
        """The room that each subject takes; training queries are no fewer than evaluated ones."""
        return {QUERIES: rows_of(self.examples.train_queries, self._width), **self._counts}

    def size(self, subjects: int, rows: Rows, packed: bool = False) -> Size:
        """A batch of up to `subjects` of these rows, with room for what they have on average and a tenth more.

        For rows of queries too where they are `packed`.
        """

        def room(counts: Int[np.ndarray, " n"]) -> int:
            some = np.sort(counts[np.asarray(rows, int)])[::-1]
            most = max(some[0], min(1.1 * subjects * some.mean(), some[:subjects].sum()))
            return 8 * int(np.ceil(max(1, most) / 8))

        scans = {name: room(counts) for name, counts in self._counts.items()}
        return Size(subjects, scans, room(self._needs[QUERIES]) if packed else None)

    def pack(self, rows: Rows, size: Size) -> Iterator[list[int]]:
        """Cut a sequence of rows into batches that fit: no more of anything than there is room for."""
        needs: Mapping[str | None, np.ndarray] = {**self._counts} if size.rows is None else self._needs
        batch, used = [], dict.fromkeys(size.room, 0)
        for row in rows:
            need = {name: int(needs[name][int(row)]) for name in size.room}
            if len(batch) == size.subjects or any(used[name] + need[name] > size.room[name] for name in need):
                yield batch
                batch, used = [], dict.fromkeys(size.room, 0)
            batch.append(int(row))
            used = {name: used[name] + need[name] for name in used}
        if batch:
            yield batch

    def batch(
        self,
        rows: Rows,
        size: Size,
        queries: QuerySet,
        places: Mapping[str, Int[np.ndarray, "subjects visits"]] | None = None,
    ) -> Batch:
        """The batch of these rows (or fewer than fit), padded to its static size, in float32.

        A scan of a modality in `places` is referred to by its number there, not read.
        """
        drawn = self.drawn(rows, size, places)
        visits, queries = _narrow(taken((self._known, queries), drawn.subject, drawn.weight > 0))
        return Batch(replace(visits, scans=drawn.scans), queries.query, queries.truth, drawn.weight, drawn.placed)

    def drawn(
        self,
        rows: Rows,
        size: Size,
        places: Mapping[str, Int[np.ndarray, "subjects visits"]] | None = None,
    ) -> Drawn:
        """The same batch, referred to by its subjects; only scans that are in no table are read."""
        places, pad = places or {}, size.subjects - len(rows)
        subject = np.array([*map(int, rows), *[0] * pad], np.int32)
        weight = np.array([1] * len(rows) + [0] * pad, np.float32)
        scans = {name: self._scans(name, rows, room) for name, room in size.scans.items() if name not in places}
        placed = {name: self._placed(name, rows, size.scans[name], where) for name, where in places.items()}
        return Drawn(subject, weight, scans, placed)

    def tables(self, scans: Mapping[str, Array], size: Size) -> Tables:
        """The whole cohort on the device, in float32, with these tables of scans, for packed batches of that size."""
        assert size.rows is not None
        train_queries, eval_queries = self.examples.train_queries, self.examples.eval_queries
        answers = np.stack([train_queries.truth[t.name].observed.sum(1) for t in self.examples.layout.targets], 1)
        made = _narrow((self._known, packed(train_queries, self._width), packed(eval_queries, self._width)))
        visits, train_queries, eval_queries = jax.tree.map(jnp.asarray, made)
        return Tables(visits, train_queries, eval_queries, jnp.asarray(answers), jnp.arange(size.rows), scans)

    @property
    def _known(self) -> Visits:
        """All subjects, without their scans."""
        cohort = self.examples.cohort
        static = cohort.static, cohort.static_observed
        return Visits(cohort.times, cohort.valid, {}, cohort.values, cohort.observed, *static)

    def _placed(self, modality: str, rows: Rows, room: int, places: Int[np.ndarray, "subjects visits"]) -> Placed:
        subject, row, visit, valid = self._slots(modality, rows, room)
        return Placed(np.where(valid, places[subject, visit], 0), row, visit, valid)

    def _scans(self, modality: str, rows: Rows, room: int) -> Scans:
        subject, row, visit, valid = self._slots(modality, rows, room)
        grid = dict(zip(self.examples.layout.modalities, self.examples.layout.grids, strict=True))[modality]
        voxels = np.zeros((room, *grid), np.float32)
        for slot in np.flatnonzero(valid):
            voxels[slot] = self._prepared(modality, int(subject[slot]), int(visit[slot]))
        return Scans(voxels, row, visit, valid)

    def _slots(self, modality: str, rows: Rows, room: int) -> tuple[np.ndarray, ...]:
        """Subject, row in the batch, visit and presence of a scan for each slot."""
        present = self.examples.cohort.present[modality][np.asarray(rows, int)]
        row, visit = np.nonzero(present)
        if len(row) > room:
            raise UserError(f"{len(row)} {modality} scans do not fit a batch of {room}; use a larger batch")
        subject = np.asarray(rows, int)[row]
        pad = (0, room - len(row))
        return *(np.pad(part, pad) for part in (subject, row, visit)), np.arange(room) < len(row)


def _narrow(tables: Tree) -> Tree:
    return jax.tree.map(lambda x: x.astype(np.float32) if x.dtype == np.float64 else x, tables)
