"""Checkpoints of a training run, committed whole or not at all, written while it goes on."""

import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from absl import logging
from jaxtyping import PyTree

from framework.errors import UserError

TROUBLE = (ValueError, KeyError, OSError, RuntimeError)  # what orbax makes of a full disk or a damaged file


class Checkpoints:
    """The last two states of a run under `folder`, by step, each with the place of its reader in the data.

    No more than `seconds` of work, or `steps`, is ever lost: a save begins after half of that, and the next
    waits for it. Raises UserError where the folder cannot be written; what it holds stays.
    """

    def __init__(self, folder: Path, seconds: float = math.inf, steps: int | None = None):
        self._folder, self._seconds, self._steps = folder.absolute(), seconds, steps or math.inf
        # a write that was killed leaves a folder of another name behind
        options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True, cleanup_tmp_directories=True)
        with self._writing():
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        self._clock, self._step = time.monotonic(), 0
        self._verbosity = logging.get_verbosity()
        logging.set_verbosity(logging.FATAL)  # what orbax logs of a failed write it raises as well

    def due(self, step: int) -> bool:
        """Whether half an interval has passed since the last save or resumption."""
        return 2 * (time.monotonic() - self._clock) >= self._seconds or 2 * (step - self._step) >= self._steps

    def save(self, step: int, state: PyTree, reader: grain.DatasetIterator) -> None:
        """Begin to write; the arrays may change once this returns."""
        if step == self._manager.latest_step():
            return
        parts = ocp.args.Composite(
            state=ocp.args.StandardSave(_plain(state)), reader=grain.checkpoint.CheckpointSave(reader)
        )
        with self._writing():
            self._manager.save(step, args=parts)
        self._clock, self._step = time.monotonic(), step

    def resume(self, like: PyTree, reader: grain.DatasetIterator) -> tuple[int, PyTree] | None:
        """The newest step and its state, in the shape of `like`, the reader set to go on from there; None where
        there is none. Raises UserError where it cannot be read.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        parts = ocp.args.Composite(
            state=ocp.args.StandardRestore(_plain(like)), reader=grain.checkpoint.CheckpointRestore(reader)
        )
        try:
            state = self._manager.restore(step, args=parts)["state"]
        except (*TROUBLE, IndexError) as error:
            self.close()
            raise UserError(
                f"the checkpoint of step {step} cannot be read ({_line(error)}); delete {self._folder / str(step)}"
            ) from error
        self._step = step
        return step, _restored(list(state), like)

    def close(self) -> None:
        """Wait for what is being written."""
        try:
            with self._writing():
                self._manager.wait_until_finished()
                self._manager.close()
        finally:
            logging.set_verbosity(self._verbosity)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except TROUBLE as error:
            raise UserError(
                f"no checkpoint can be written to {self._folder} ({_line(error)}); make room there, or choose another "
                "place with runs=...; the same command goes on from the last one"
            ) from error


def _plain(state: PyTree) -> list:
    """The leaves as ordinary arrays, random keys as their data; empty ones, which orbax refuses, left out."""
    return [jax.random.key_data(x) if _is_key(x) else x for x in jax.tree.leaves(state) if x.size]


def _restored(leaves: list, like: PyTree) -> PyTree:
    old, shape = jax.tree.flatten(like)
    held = iter(leaves)
    parts = [(next(held) if o.size else o, o) for o in old]
    return shape.unflatten([jax.random.wrap_key_data(x) if _is_key(o) else x for x, o in parts])


def _line(error: Exception) -> str:
    """What the system said, where it said something; else the beginning of what the library did."""
    text = " ".join(str(error).split())
    system = re.search(r"([^:]+) \[os_error_code", text)
    return system[1].strip() if system else text[:200]


def _is_key(leaf: object) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
