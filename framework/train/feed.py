"""Stacked batches for several members at once, read ahead of the step."""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import jax
import numpy as np
from jaxtyping import Array, Key

from framework.data.batch import Batch, Loader, Size
from framework.data.split import Split


class Feed:
    """What each member trains on and is validated by; `chunk` steps are handed over together.

    A member's batches depend on its own subjects and key alone. They are padded to one shape for all.
    """

    def __init__(self, loader: Loader, splits: Sequence[Split], keys: Key[Array, " m"], subjects: int, round: int):
        self._loader = loader
        self._seeds = [[int(word) for word in words] for words in np.asarray(jax.random.key_data(keys))]
        self._rows = [np.flatnonzero(split.train) for split in splits]
        self._sizes = [loader.size(min(subjects, len(rows)), rows) for rows in self._rows]
        judges = [np.flatnonzero(split.validation) for split in splits]
        # a validation subject may have more scans than any that trains
        self._size = _widest([*self._sizes, *(loader.size(1, rows) for rows in judges if len(rows))])
        self._validation = [list(loader.pack(rows, self._size)) if len(rows) else [] for rows in judges]
        self.chunk = 1 if self._size.scans else round

    def training(self, start: int) -> Generator[Batch, None, None]:
        """Chunks (steps, members, ...) from step `start` on, the next one built while the last is used."""
        streams = [
            islice(self._loader.endless(rows, size, seed), start, None)
            for rows, size, seed in zip(self._rows, self._sizes, self._seeds, strict=True)
        ]

        def chunk() -> Batch:
            return _stack([self._members([next(stream) for stream in streams], True) for _ in range(self.chunk)])

        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(chunk)
            while True:
                ready, ahead = ahead.result(), reader.submit(chunk)
                yield ready

    def validation(self) -> Iterator[Batch]:
        """Batches (members, ...) that together show each member its validation subjects once."""
        for place in range(max(map(len, self._validation))):
            yield self._members([rows[place] if place < len(rows) else [] for rows in self._validation], False)

    def _members(self, rows: list[list[int]], taught: bool) -> Batch:
        examples = self._loader.examples
        questions = examples.taught if taught else examples.asked
        return _stack([self._loader.batch(some, self._size, questions) for some in rows])


def _stack(batches: list[Batch]) -> Batch:
    return jax.tree.map(lambda *parts: np.stack(parts), *batches)


def _widest(sizes: Sequence[Size]) -> Size:
    scans = {name: max(size.scans[name] for size in sizes) for name in sizes[0].scans}
    return Size(max(size.subjects for size in sizes), scans)
