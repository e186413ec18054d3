"""Checkpoints of a training run, committed whole or not at all, written while it goes on."""

import json
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from framework.digests import READ_ERRORS, digest_arrays
from framework.errors import UnwritableError, UserError
from framework.files import open_atomic


class Checkpoints:
    """The last two states of a run under `folder`, by step, each with the place of its reader in the data.

    A state is one file, `<step>.npz`, with its step and the digest of its arrays; it is written aside, synchronised and
    renamed by a thread. No more than `seconds` of work, or `steps`, is ever lost: a save begins after half of that, and
    the next waits for it. Of several hosts the first writes what all have. Raises UserError where the folder cannot be
    written; what it holds stays.
    """

    def __init__(self, folder: Path, seconds: float = math.inf, steps: int | None = None):
        self._folder, self._seconds, self._steps = folder.absolute(), seconds, steps or math.inf
        self._writer: threading.Thread | None = None
        self._failure: BaseException | None = None
        with self._writing():
            self._folder.mkdir(parents=True, exist_ok=True)
            if jax.process_index() == 0:
                for cut_short in self._folder.glob("*.new"):  # by a kill
                    cut_short.unlink()
        self._clock, self._step = time.monotonic(), 0

    def due(self, step: int) -> bool:
        """Whether half an interval has passed since the last save or resumption."""
        return 2 * (time.monotonic() - self._clock) >= self._seconds or 2 * (step - self._step) >= self._steps

    def save(self, step: int, state: PyTree, reader: grain.DatasetIterator | None = None) -> None:
        """Begin to write; the arrays may change once this returns."""
        self._wait()
        if step == max(self._held(), default=None):
            return
        arrays = [_on_host(leaf) for leaf in jax.tree.leaves(state)]
        place = None if reader is None else reader.get_state()
        if jax.process_index() == 0:
            self._writer = threading.Thread(target=self._write, args=(step, arrays, place), daemon=True)
            self._writer.start()
        self._clock, self._step = time.monotonic(), step

    def resume(self, like: PyTree, reader: grain.DatasetIterator | None = None) -> tuple[int, PyTree] | None:
        """The newest step and its state, in the shape of `like`, the reader set to go on from there; None where
        there is none. Raises UserError where it cannot be read.
        """
        step = max(self._held(), default=None)
        if step is None:
            return None
        file, (wanted, shape) = self._file(step), jax.tree.flatten(like)
        try:
            with np.load(file, allow_pickle=False) as held:
                leaves = [_as_was(held[f"arr_{i}"], leaf) for i, leaf in enumerate(wanted)]
                if len(held.files) != len(wanted) + 1:
                    raise ValueError(f"it holds {len(held.files) - 1} arrays, not {len(wanted)}")
                record, arrays = json.loads(str(held["reader"])), [held[f"arr_{i}"] for i in range(len(wanted))]
            if (record["step"], record["digest"]) != (step, digest_arrays(arrays)):
                raise ValueError("it is not what was saved then")
            if reader is not None:
                reader.set_state(record["reader"])
        except READ_ERRORS as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"the checkpoint of step {step} cannot be read ({reason}); delete {file}") from error
        self._step = step
        return step, shape.unflatten(leaves)

    def close(self) -> None:
        """Wait for what is being written."""
        self._wait()

    def _held(self) -> list[int]:
        return [int(file.stem) for file in self._folder.glob("*.npz") if file.stem.isdigit()]

    def _file(self, step: int) -> Path:
        return self._folder / f"{step}.npz"

    def _wait(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.join()
        failure, self._failure = self._failure, None
        if failure is not None:
            with self._writing():
                raise failure

    def _write(self, step: int, arrays: Sequence[np.ndarray], place: Any) -> None:
        """Write in the thread; a failure is raised where the next save, or the end, waits for it."""
        try:
            record = json.dumps({"step": step, "digest": digest_arrays(arrays), "reader": place})
            with open_atomic(self._file(step), "wb") as new:
                np.savez(new, *arrays, allow_pickle=False, reader=np.array(record))
            for old in sorted(self._held())[:-2]:
                self._file(old).unlink(missing_ok=True)
        except BaseException as error:
            self._failure = error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UnwritableError(
                f"no checkpoint can be written to {self._folder} ({error.strerror}); make room there, or choose "
                "another place with runs=...; the same command goes on from the last one"
            ) from error


def _on_host(leaf: jax.Array | np.ndarray) -> np.ndarray:
    """A copy, whole, of a random key its data."""
    if _is_key(leaf):
        leaf = jax.random.key_data(leaf)
    if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
        leaf = multihost_utils.process_allgather(leaf, tiled=True)
    return np.array(leaf)


def _as_was(held: np.ndarray, like: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """Return a stored array in the kind of array that it was."""
    data = jax.eval_shape(jax.random.key_data, like) if _is_key(like) else like
    if held.dtype.kind == "V":  # types that NumPy does not know are written as bytes
        held = held.view(data.dtype)
    if (held.shape, held.dtype) != (data.shape, data.dtype):
        raise ValueError(f"an array of {held.dtype}{list(held.shape)} where {data.dtype}{list(data.shape)} is expected")
    if isinstance(like, np.ndarray):
        return held
    return jax.random.wrap_key_data(jnp.asarray(held)) if _is_key(like) else jnp.asarray(held)


def _is_key(leaf: object) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
