"""Interface of image encoders."""

from abc import abstractmethod

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from framework.configurable import configurable
from framework.errors import UserError
from framework.types import Arr


@configurable("encoder")
class Encoder(nnx.Module):
    """Turns each scan of one modality into a vector of `out_features` numbers.

    Built as `Encoder(..., grid=(x, y, z, c), rngs=...)`, or with a grid of (x, y, c): the configuration first,
    then the modality's grid.
    """

    out_features: int

    @abstractmethod
    def __call__(self, voxels: Float[Arr, "n *space c"]) -> Float[Array, "n d"]: ...

    def code(
        self, voxels: Float[Arr, "n *space c"], key: Key[Array, ""] | None
    ) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
        """Return each scan's code for the decoder in pretraining, and a regularisation term added to the loss.

        A key draws a random code from an encoder that has one; this one is deterministic, and the term is 0.
        """
        return self(voxels), jnp.zeros(voxels.shape[0])


def needs(grid: tuple[int, ...], least: int) -> None:
    """Raise UserError where a grid is smaller than what the stages of an encoder need to halve it."""
    if min(grid[:-1]) < least:
        size = "×".join(map(str, grid[:-1]))
        raise UserError(
            f"this encoder needs scans of at least {least} voxels a side, and they have {size}; "
            "fix: ingest the cohort on a finer grid, or use fewer stages or another model/encoder"
        )


def divides(groups: int, channels: int) -> None:
    """Raise UserError where channels cannot be cut into so many groups."""
    if channels % groups:
        raise UserError(f"{channels} channels cannot be normalised in {groups} equal groups; use groups that divide it")
