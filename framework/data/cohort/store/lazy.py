"""The scans of a cohort as one lazy array of xarray, each read by the cohort's own reader."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float
from xarray.backends import BackendArray
from xarray.core.indexing import ExplicitIndexer, IndexingSupport, LazilyIndexedArray, explicit_indexing_adapter

Read = Callable[[int, int], Float[np.ndarray, "x y z c"]]


class _Scans(BackendArray):
    """An array (subject, visit, x, y, z, c) whose scans are read one by one; NaN where none is present."""

    def __init__(self, shape: tuple[int, ...], present: Bool[np.ndarray, "n t"], read: Read):
        self.shape, self.dtype = shape, np.dtype(np.float32)
        self._present, self._read = present, read

    def __getitem__(self, key: ExplicitIndexer) -> np.ndarray:
        return explicit_indexing_adapter(key, self.shape, IndexingSupport.BASIC, self._part)

    def _part(self, key: tuple[int | slice, ...]) -> np.ndarray:
        subjects, visits, *inside = key
        rows, columns = np.arange(self.shape[0])[subjects], np.arange(self.shape[1])[visits]
        absent = np.empty(self.shape[2:], bool)[tuple(inside)]
        made = np.full((rows.size, columns.size, *absent.shape), np.nan, self.dtype)
        for i, row in enumerate(rows.reshape(-1).tolist()):
            for j, column in enumerate(columns.reshape(-1).tolist()):
                if self._present[row, column]:
                    made[i, j] = self._read(row, column)[tuple(inside)]
        return made.reshape((*rows.shape, *columns.shape, *absent.shape))


def lazy_scans(shape: tuple[int, ...], present: Bool[np.ndarray, "n t"], read: Read) -> LazilyIndexedArray:
    """Scans of one modality, of which `read(subject, visit)` gives those that are present."""
    return LazilyIndexedArray(_Scans(shape, present, read))
