"""Checkpoints of a training run, committed whole or not at all."""

from pathlib import Path

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from framework.errors import UserError


class Checkpoints:
    """The last two states of a run under `folder`, by round."""

    def __init__(self, folder: Path):
        options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, round: int, state: PyTree) -> None:
        self._manager.save(round, args=ocp.args.StandardSave(_plain(state)))

    def latest(self, like: PyTree) -> tuple[int, PyTree] | None:
        """The newest round and its state, in the shape of `like`; None where there is none."""
        round = self._manager.latest_step()
        if round is None:
            return None
        try:
            state = self._manager.restore(round, args=ocp.args.StandardRestore(_plain(like)))
        except (ValueError, KeyError, OSError) as error:
            self.close()
            raise UserError(
                f"the checkpoint of round {round} cannot be read ({_line(error)}); delete its folder"
            ) from error
        return round, _restored(list(state), like)

    def close(self) -> None:
        """Wait for what is being written."""
        self._manager.wait_until_finished()
        self._manager.close()


def save_arrays(path: Path, state: PyTree) -> None:
    """Write one pytree of arrays, replacing what was there."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.absolute(), _plain(state), force=True)


def load_arrays(path: Path, like: PyTree) -> PyTree:
    """Read a pytree of the shape of `like` back. Raises UserError where it is absent or of another shape."""
    if not path.exists():
        raise UserError(f"no fitted model at {path}; run the forecast first, or name a run that finished")
    wanted = _plain(like)
    with ocp.StandardCheckpointer() as checkpointer:
        try:
            held = checkpointer.metadata(path.absolute()).item_metadata
            if _shapes(held.tree if held else []) != _shapes(wanted):
                raise ValueError("its arrays have other shapes")
            return _restored(checkpointer.restore(path.absolute(), wanted), like)
        except (ValueError, KeyError, OSError) as error:
            raise UserError(
                f"the fitted model at {path} cannot be read ({_line(error)}); another recipe made it, or it is damaged"
            ) from error


def _shapes(tree: PyTree) -> list[tuple]:
    return [(x.shape, x.dtype) for x in jax.tree.leaves(tree)]


def _plain(state: PyTree) -> list:
    """The leaves as ordinary arrays, random keys as their data; empty ones, which orbax refuses, left out."""
    return [jax.random.key_data(x) if _is_key(x) else x for x in jax.tree.leaves(state) if x.size]


def _restored(leaves: list, like: PyTree) -> PyTree:
    old, shape = jax.tree.flatten(like)
    held = iter(leaves)
    parts = [(next(held) if o.size else o, o) for o in old]
    return shape.unflatten([jax.random.wrap_key_data(x) if _is_key(o) else x for x, o in parts])


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _is_key(leaf: object) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
