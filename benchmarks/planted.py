"""A network with planted faults: an error, divergence, or the death of its process."""

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from framework.forecast.deep.forecaster import Deep


@dataclass(frozen=True)
class Planted(Deep):
    """A deep forecaster that records the seed of each fit in `folder` as it begins and as it ends.

    The jobs of the seeds in `faults` fail: under `crash` they raise an error, under `diverge` their learning rate is
    extreme, and under `kill` their process kills itself in the first fit.
    """

    faults: Mapping[str, Sequence[int]]
    folder: str
    seeds: int

    def _fitted(self, examples, splits, keys, dynamics, folder, log, fail):
        seeds = [self._seed(key) for key in keys]
        self._note("begun", seeds)
        for seed in seeds:
            self._fail(seed)
        if diverging := [m for m, seed in enumerate(seeds) if seed in self.faults.get("diverge", ())]:
            assert dynamics is not None
            rates = dynamics.learning_rate.at[jnp.array(diverging)].set(1e38)
            dynamics = type(dynamics)(**{**vars(dynamics), "learning_rate": rates})
        fitted = super()._fitted(examples, splits, keys, dynamics, folder, log, fail)
        self._note("ended", seeds)
        return fitted

    def _seed(self, key) -> int:
        """Find the seed of the job of a key."""
        words = np.asarray(jax.random.key_data(key))
        for seed in range(self.seeds):
            if (words == np.asarray(jax.random.key_data(jax.random.split(jax.random.key(seed), 1)[0]))).all():
                return seed
        raise LookupError(f"the key {words} belongs to none of {self.seeds} seeds")

    def _fail(self, seed: int) -> None:
        if seed in self.faults.get("crash", ()):
            raise RuntimeError(f"planted in the job of seed {seed}")
        died = Path(self.folder) / f"died-{seed}"
        if seed in self.faults.get("kill", ()) and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def _note(self, event: str, seeds: Sequence[int]) -> None:
        with (Path(self.folder) / "fits.txt").open("a") as file:
            file.writelines(f"{event} {seed}\n" for seed in seeds)
