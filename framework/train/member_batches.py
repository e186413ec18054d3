"""Stacked batches for several members at once, read ahead of the step."""

from collections.abc import Iterator, Sequence

import grain
import jax
import numpy as np
from jaxtyping import Array, Key

from framework.data.batches.batch import Drawn, Loader, Order, Size, Tables
from framework.data.batches.device_cache import Kept
from framework.data.splits.split import Split

AHEAD = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)  # chunks; each holds its scans in memory


class Feed:
    """Training and validation batches of every member; `chunk` steps are read together.

    A member's batches depend on its own subjects and key alone. They are padded to one shape for all. With
    `parts` above 1 a step is that many batches of as many fewer subjects. Visits and queries of the cohort stay on the
    device, in `tables`, and so do modalities that fit `device_bytes` whole. Sizes are rounded up to a `multiple`, the
    devices that share a batch.
    """

    def __init__(
        self,
        loader: Loader,
        splits: Sequence[Split],
        keys: Key[Array, " m"],
        subjects: int,
        round: int,
        parts: int = 1,
        device_bytes: int = 0,
        multiple: int = 1,
    ):
        self._loader, self._parts = loader, parts
        rows = [np.flatnonzero(split.train) for split in splits]
        sizes = [loader.size(min(-(-subjects // parts), len(train)), train, packed=True) for train in rows]
        seeds = [[int(word) for word in words] for words in np.asarray(jax.random.key_data(keys))]
        self._orders = [Order(loader, *each) for each in zip(rows, sizes, seeds, strict=True)]
        validation = [np.flatnonzero(split.validation) for split in splits]
        # a validation subject may need more room than any that trains
        self._size = _widest([*sizes, *(loader.size(1, held, packed=True) for held in validation if len(held))])
        self._validation = [list(loader.pack(held, self._size)) if len(held) else [] for held in validation]
        self._size = _rounded(self._size, multiple)
        self._kept = Kept(loader, np.any([s.train | s.validation for s in splits], axis=0), device_bytes)
        # a compiled loop over steps would hold all their scans in memory at once
        self.chunk = round if set(self._size.scans) <= set(self._kept.tables) else 1
        self.tables: Tables = loader.tables(self._kept.tables, self._size)

    def training(self, steps: int) -> grain.DatasetIterator[Drawn]:
        """Chunks (steps, members, ...) for that many steps, read ahead; its state is how many were taken."""
        chunks = grain.MapDataset.range(-(-steps // self.chunk)).map(self._chunk)
        return iter(chunks.to_iter_dataset(AHEAD))

    def rows(self, step: int, member: int) -> list[int]:
        """Return the rows of a member's subjects in a step, counted from 0."""
        order = self._orders[member]
        return [row for part in range(self._parts) for row in order[step * self._parts + part]]

    def subjects(self, step: int, member: int) -> list[str]:
        """Return the subjects of a member's step."""
        return [self._loader.examples.subjects[row] for row in self.rows(step, member)]

    @property
    def validates(self) -> bool:
        """Whether any member has validation subjects."""
        return any(self._validation)

    def validation(self) -> Iterator[Drawn]:
        """Yield batches (members, ...) that together hold each member's validation subjects once."""
        for place in range(max(map(len, self._validation))):
            rows = [batches[place] if place < len(batches) else [] for batches in self._validation]
            yield _stack([self._drawn(subjects) for subjects in rows])

    def _chunk(self, number: int) -> Drawn:
        return _stack([self._step(number * self.chunk + place) for place in range(self.chunk)])

    def _step(self, step: int) -> Drawn:
        if self._parts == 1:
            return _stack([self._drawn(order[step]) for order in self._orders])
        numbers = range(step * self._parts, (step + 1) * self._parts)
        return _stack([_stack([self._drawn(order[number]) for number in numbers]) for order in self._orders])

    def _drawn(self, rows: list[int]) -> Drawn:
        return self._loader.drawn(rows, self._size, self._kept.places)


def _stack(batches: list[Drawn]) -> Drawn:
    return jax.tree.map(lambda *parts: np.stack(parts), *batches)


def _widest(sizes: Sequence[Size]) -> Size:
    scans = {name: max(size.scans[name] for size in sizes) for name in sizes[0].scans}
    return Size(max(size.subjects for size in sizes), scans, max(size.rows or 0 for size in sizes))


def _rounded(size: Size, multiple: int) -> Size:
    up = {name: -(-count // multiple) * multiple for name, count in size.scans.items()}
    return Size(-(-size.subjects // multiple) * multiple, up, -(-(size.rows or 0) // multiple) * multiple)
