"""What an image encoder is."""

from abc import abstractmethod

from flax import nnx
from jaxtyping import Array, Float

from framework.types import Arr


class Encoder(nnx.Module):
    """Turns each scan of one modality into a vector of `out_features` numbers.

    Built as `Encoder(..., grid=(x, y, z, c), rngs=...)`, or with a grid of (x, y, c): the configuration first,
    then the modality's grid.
    """

    out_features: int

    @abstractmethod
    def __call__(self, voxels: Float[Arr, "n *space c"]) -> Float[Array, "n d"]: ...
