"""Prepared scans kept in memory, within a budget of bytes."""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

import numpy as np
from jaxtyping import Float

Read = Callable[[str, int, int], Float[np.ndarray, "x y z c"]]


class ScanCache:
    """Scans by modality, subject and visit, prepared by `read`; as many stay in memory as `room` bytes hold.

    A scan that finds no room takes that of those used longest ago, or with `replaces=False` is not kept, which serves
    scans that are all read in the same order again and again.
    """

    def __init__(self, read: Read, room: int, replaces: bool = True):
        self._read, self._room, self._replaces = read, room, replaces
        self._kept: OrderedDict[tuple[str, int, int], np.ndarray] = OrderedDict()
        self._lock = Lock()

    def __call__(self, modality: str, subject: int, visit: int) -> Float[np.ndarray, "x y z c"]:
        """One scan, read where it is not kept."""
        key = (modality, subject, visit)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        voxels = self._read(*key)
        with self._lock:
            while self._replaces and self._kept and self._room < voxels.nbytes:
                self._room += self._kept.popitem(last=False)[1].nbytes
            if voxels.nbytes <= self._room and key not in self._kept:
                self._kept[key] = voxels
                self._room -= voxels.nbytes
        return voxels
