"""Batches of static shape, and the order in which they come.

The order is a function of (seed, epoch) and the member's own subjects alone, so a run goes on where it
stopped, and a fold trained beside others sees the very batches it would see alone.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import SupportsInt

import jax
import numpy as np
from jaxtyping import Array, Float

from framework.data.examples import Examples, Questions
from framework.errors import UserError
from framework.image.normalise import normalise
from framework.types import Query, Scans, Truth, Visits, pytree

Rows = Collection[SupportsInt]  # places of subjects in the cohort
Prepare = Callable[[str, np.ndarray], np.ndarray]


@pytree
class Batch:
    """Histories, questions and answers of a few subjects; `weight` 0 marks padding."""

    visits: Visits
    query: Query
    truth: Mapping[str, Truth]
    weight: Float[Array | np.ndarray, " b"]


@dataclass(frozen=True)
class Size:
    """The static shape of a batch: subjects, and packed scans of each modality."""

    subjects: int
    scans: Mapping[str, int]


class Loader:
    """Builds batches from a cohort, keeping prepared scans in memory up to `cache_bytes`.

    `prepare(modality, voxels)` makes of a scan what its modality's grid in the layout says.
    """

    def __init__(self, examples: Examples, cache_bytes: int = 2 << 30, prepare: Prepare | None = None):
        self.examples, self._prepare = examples, prepare or (lambda modality, voxels: normalise(voxels))
        cohort, layout = examples.cohort, examples.layout
        self._counts = {name: cohort.present[name].sum(1) for name in layout.modalities}
        self._cache: OrderedDict[tuple[str, int, int], np.ndarray] = OrderedDict()
        self._lock, self._room = Lock(), cache_bytes

    def size(self, subjects: int, rows: Rows) -> Size:
        """A batch of up to `subjects` of these rows, with room for the scans they have on average and a tenth more."""
        scans = {}
        for name, counts in self._counts.items():
            some = np.sort(counts[np.asarray(rows, int)])[::-1]
            room = max(some[0], min(1.1 * subjects * some.mean(), some[:subjects].sum()))
            scans[name] = 8 * int(np.ceil(max(1, room) / 8))
        return Size(subjects, scans)

    def pack(self, rows: Rows, size: Size) -> Iterator[list[int]]:
        """Cut a sequence of rows into batches that fit: no more subjects and no more scans than there is room for."""
        batch, used = [], dict.fromkeys(size.scans, 0)
        for row in rows:
            need = {name: int(self._counts[name][row]) for name in size.scans}
            if len(batch) == size.subjects or any(used[name] + need[name] > size.scans[name] for name in need):
                yield batch
                batch, used = [], dict.fromkeys(size.scans, 0)
            batch.append(int(row))
            used = {name: used[name] + need[name] for name in used}
        if batch:
            yield batch

    def endless(self, rows: Rows, size: Size, seed: Sequence[int]) -> Iterator[list[int]]:
        """Shuffled batches of these rows, epoch after epoch."""
        epoch = 0
        while True:
            order = np.random.default_rng([*seed, epoch]).permutation(np.asarray(rows, int))
            yield from self.pack(order, size)
            epoch += 1

    def batch(self, rows: Rows, size: Size, questions: Questions) -> Batch:
        """The batch of these rows (or fewer than fit), padded to its static size, in float32."""
        cohort = self.examples.cohort
        pad = size.subjects - len(rows)
        index = np.array([*map(int, rows), *[0] * pad], int)
        real = np.arange(size.subjects) < len(rows)

        def take(table: np.ndarray) -> np.ndarray:
            part = np.where(real.reshape(-1, *[1] * (table.ndim - 1)), table[index], np.zeros((), table.dtype))
            return part.astype(np.float32) if part.dtype == np.float64 else part

        visits = Visits(
            times=take(cohort.times),
            valid=take(cohort.valid),
            scans={name: self._scans(name, rows, room) for name, room in size.scans.items()},
            values=take(cohort.values),
            observed=take(cohort.observed),
            static=take(cohort.static),
            static_observed=take(cohort.static_observed),
        )
        query, truth = jax.tree.map(take, (questions.query, questions.truth))
        return Batch(visits, query, truth, real.astype(np.float32))

    def _scans(self, modality: str, rows: Rows, room: int) -> Scans:
        present = self.examples.cohort.present[modality]
        slots = [
            (place, row, int(visit))
            for place, row in enumerate(map(int, rows))
            for visit in np.flatnonzero(present[row])
        ]
        if len(slots) > room:
            raise UserError(f"{len(slots)} {modality} scans do not fit a batch of {room}; use a larger batch")
        grid = dict(zip(self.examples.layout.modalities, self.examples.layout.grids, strict=True))[modality]
        voxels = np.zeros((room, *grid), np.float32)
        row, visit, valid = np.zeros(room, int), np.zeros(room, int), np.arange(room) < len(slots)
        for slot, (place, subject, when) in enumerate(slots):
            voxels[slot] = self._prepared(modality, subject, when)
            row[slot], visit[slot] = place, when
        return Scans(voxels, row, visit, valid)

    def _prepared(self, modality: str, subject: int, visit: int) -> np.ndarray:
        key = (modality, subject, visit)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        voxels = self._prepare(modality, self.examples.cohort.voxels(modality, subject, visit))
        with self._lock:
            while self._cache and self._room < voxels.nbytes:
                self._room += self._cache.popitem(last=False)[1].nbytes
            if voxels.nbytes <= self._room and key not in self._cache:
                self._cache[key] = voxels
                self._room -= voxels.nbytes
        return voxels
