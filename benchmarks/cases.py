"""Timed networks by name, and the simulated scans on which they are timed. Imports neither jax nor torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

CHANNELS, GROUPS, CLASSES = (16, 32, 64, 128), 8, 10
RESNET10 = {"blocks": (1, 1, 1, 1), "width": 64, "groups": 8, "stem": 7, "stride": 2, "pool": 2}
EMBEDDING, STATE = 32, 64  # of a scan, of the GRU
RATE = 1e-4  # of Adam; so small that gradients do not vanish when the same batch is used repeatedly


@dataclass(frozen=True)
class Contenders:
    """The timed calls of a case by label, which return when their work is done, and facts about it."""

    calls: Mapping[str, Callable[[], object]]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """A batch of cubic scans of one channel for one network; each subject has `visits` successive scans."""

    network: str
    side: int
    scans: int
    visits: int = 1

    def voxels(self) -> Float[np.ndarray, "n x y z 1"]:
        """Simulate noise without zeros, which some kernels would skip."""
        return np.random.default_rng(0).normal(size=(self.scans, *(self.side,) * 3, 1)).astype(np.float32)

    def labels(self) -> np.ndarray:
        """Simulate a class per scan."""
        return np.random.default_rng(1).integers(CLASSES, size=self.scans)

    def values(self) -> Float[np.ndarray, " b"]:
        """Simulate an outcome per subject."""
        return np.random.default_rng(1).normal(size=self.scans // self.visits).astype(np.float32)

    def times(self) -> Float[np.ndarray, "b t"]:
        """Simulate irregular times of visits in years."""
        gaps = np.random.default_rng(2).uniform(0.4, 1.6, size=(self.scans // self.visits, self.visits))
        return np.cumsum(gaps, axis=1).astype(np.float32)


CASES = {
    "32³×16": Case("plain", 32, 16),
    "64³×4": Case("plain", 64, 4),
    "96³×2": Case("plain", 96, 2),
    "series": Case("series", 48, 16, visits=4),
    "resnet10": Case("resnet10", 64, 4),
}
