"""A fitted model's arrays in a file of their own, `arrays.npz`."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from framework.digests import READ_ERRORS
from framework.errors import UserError
from framework.files import open_atomic

FILE = "arrays.npz"


def save_arrays(path: Path, state: PyTree) -> None:
    """Write one pytree of arrays into the folder `path`, replacing what was there."""
    path.mkdir(parents=True, exist_ok=True)
    with open_atomic(path / FILE, "wb") as file:
        np.savez(file, *(np.asarray(leaf) for leaf in jax.tree.leaves(state)))


def load_arrays(path: Path, like: PyTree, finite: bool = True) -> PyTree:
    """Read a pytree of the shape of `like` back.

    Raises UserError where it is absent or of another shape, or holds what is no finite number though all must be.
    """
    if not (path / FILE).exists():
        raise UserError(f"no fitted model at {path}; run the forecast first, or name a run that finished")
    wanted, shape = jax.tree.flatten(like)
    try:
        with np.load(path / FILE, allow_pickle=False) as held:
            arrays = [held[f"arr_{number}"] for number in range(len(held.files))]
    except READ_ERRORS as error:
        raise UserError(f"the fitted model at {path} cannot be read ({' '.join(str(error).split())[:200]})") from error
    if [(x.shape, x.dtype) for x in arrays] != [(x.shape, x.dtype) for x in wanted]:
        raise UserError(
            f"the fitted model at {path} cannot be read: its arrays have other shapes; another recipe made it"
        )
    if finite and not all(np.isfinite(x).all() for x in arrays if np.issubdtype(x.dtype, np.inexact)):
        raise UserError(f"the fitted model at {path} holds weights that are no finite numbers; fit it again")
    kept = [x if isinstance(old, np.ndarray) else jnp.asarray(x) for x, old in zip(arrays, wanted, strict=True)]
    return shape.unflatten(kept)
