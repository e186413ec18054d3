"""What training costs, and how fast it goes once compiled."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import PyTree

from framework.data.batch import Batch


@dataclass(frozen=True)
class Cost:
    """What training cost; the rates are those of the steady state, after compiling."""

    seconds: float
    compile_seconds: float
    steps: int
    members: int
    scans_per_second: float | None
    subjects_per_second: float | None


class Meter:
    """Wall time, the part of it spent compiling, and how fast subjects and scans go through the step."""

    def __init__(self):
        self._started = time.perf_counter()
        self._compiled: Callable | None = None
        self._compile = 0.0
        self._steady, self._subjects, self._scans = 0.0, 0.0, 0.0

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self._started

    def time(self, function: Callable, *args: PyTree) -> PyTree:
        """Compile on the first call, run, wait for the result."""
        compiled = self._compiled
        first = compiled is None
        if compiled is None:
            start = time.perf_counter()
            compiled = self._compiled = function.lower(*args).compile()
            self._compile = time.perf_counter() - start
        start = time.perf_counter()
        result = jax.block_until_ready(compiled(*args))
        if not first:
            batches: Batch = args[-1]
            self._steady += time.perf_counter() - start
            self._subjects += float(np.sum(batches.weight))
            self._scans += sum(float(np.sum(scans.valid)) for scans in batches.visits.scans.values())
        return result

    def cost(self, steps: int, members: int) -> Cost:
        def rate(count: float) -> float | None:
            return count / self._steady if self._steady and count else None

        return Cost(self.elapsed, self._compile, steps, members, rate(self._scans), rate(self._subjects))
