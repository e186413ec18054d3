"""What a sequence head is."""

from abc import abstractmethod

from flax import nnx
from jaxtyping import Array, Float

from framework.types import Query, Sequence


class Head(nnx.Module):
    """Answers each query from the visits up to its origin and nothing later, as `out_features` numbers.

    Built as `Head(..., d_in=..., rngs=...)`: the configuration first, then the size of a token.
    """

    out_features: int

    @abstractmethod
    def __call__(self, sequence: Sequence, query: Query) -> Float[Array, "b q h"]: ...
