"""A network that fails where it is told to: by an error, by numbers that are none, by the death of its process."""

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
    """A deep forecaster in whose `folder` each fit leaves a line, its job's seed, as it begins and as it ends.

    The jobs of seeds under `faults` come to grief: at `crash` they raise an error, at `diverge` their learning rate is
    beyond all measure, at `kill` their process kills itself, the first time that they are fitted.
    """

    faults: Mapping[str, Sequence[int]]
    folder: str
    seeds: int

    def _fitted(self, examples, splits, keys, dynamics, folder, log, fail):
        seeds = [self._seed(key) for key in keys]
        self._note("begun", seeds)
        for seed in seeds:
            self._fail(seed)
        if lost := [m for m, seed in enumerate(seeds) if seed in self.faults.get("diverge", ())]:
            assert dynamics is not None
            rates = dynamics.learning_rate.at[jnp.array(lost)].set(1e38)
            dynamics = type(dynamics)(**{**vars(dynamics), "learning_rate": rates})
        made = super()._fitted(examples, splits, keys, dynamics, folder, log, fail)
        self._note("ended", seeds)
        return made

    def _seed(self, key) -> int:
        """The seed of the job to whom a key belongs."""
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

    def _note(self, what: str, seeds: Sequence[int]) -> None:
        with (Path(self.folder) / "fits.txt").open("a") as file:
            file.writelines(f"{what} {seed}\n" for seed in seeds)
