"""Whole modalities kept on the device, so that a step reads its scans there instead of being sent them."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from framework.data.batches.batch import Loader

READERS = 4


class Kept:
    """Tables of prepared scans, for the modalities that fit a budget of bytes whole, in the order of the layout.

    `tables` lie on the device; `places` say where in its table the scan of a subject's visit is, -1 for none.
    """

    def __init__(self, loader: Loader, subjects: Bool[np.ndarray, " subjects"], budget: int):
        layout, present = loader.examples.layout, loader.examples.cohort.present
        self.tables: Mapping[str, Float[Array, "s x y z c"]] = {}
        self.places: Mapping[str, Int[np.ndarray, "subjects visits"]] = {}
        for name, grid in zip(layout.modalities, layout.grids, strict=True):
            wanted = present[name] & subjects[:, None]
            needed = int(wanted.sum()) * int(np.prod(grid)) * np.dtype(np.float32).itemsize
            if 0 < needed <= budget:
                budget -= needed
                self.tables[name] = jnp.asarray(_table(loader, name, np.argwhere(wanted), grid))
                self.places[name] = np.where(wanted, np.cumsum(wanted).reshape(wanted.shape) - 1, -1)


def _table(
    loader: Loader, name: str, scans: Int[np.ndarray, "s 2"], grid: tuple[int, ...]
) -> Float[np.ndarray, "s x y z c"]:
    table = np.empty((len(scans), *grid), np.float32)

    def fill(slot: int) -> None:
        table[slot] = loader.read(name, *map(int, scans[slot]))

    with ThreadPoolExecutor(READERS) as readers:
        list(readers.map(fill, range(len(scans))))
    return table
