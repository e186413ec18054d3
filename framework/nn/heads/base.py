"""Interface of sequence heads."""

from abc import abstractmethod

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from framework.configurable import configurable
from framework.history import at_origin
from framework.types import Arr, Query, Sequence


@configurable("head")
class Head(nnx.Module):
    """Answers each query from the visits up to its origin and nothing later, as `out_features` numbers.

    Built as `Head(..., d_in=..., rngs=...)`: the configuration first, then the size of a token. A key turns on the
    dropout of a head that has one, at `rate`.
    """

    out_features: int

    @abstractmethod
    def __call__(
        self, sequence: Sequence, query: Query, key: Key[Array, ""] | None = None, rate: Float[Arr, ""] | float = 0.0
    ) -> Float[Array, "b q h"]: ...


def years_ahead(sequence: Sequence, query: Query) -> Float[Array, "b q"]:
    """Years from each query's origin to its time.

    A time before the origin counts as the origin: data of a visit cannot be unseen. Padding counts as 0, whatever its
    value.
    """
    ahead = jnp.asarray(query.time) - at_origin(sequence.times, query)
    return jnp.maximum(jnp.where(query.valid, ahead, 0), 0)
