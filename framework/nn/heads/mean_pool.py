"""The mean of the visits up to the origin: a reference for every head that uses their order."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from framework.history import at_origin
from framework.nn.heads.base import Head, years_ahead
from framework.nn.heads.gru import after
from framework.nn.layers import Dense
from framework.types import Arr, Query, Sequence


class MeanPool(Head):
    """One layer on each feature's mean over the visits that observed it, and on the share of visits that did."""

    def __init__(self, features: int, *, d_in: int, rngs: nnx.Rngs):
        self.out_features = features
        self.out = Dense(2 * d_in + 2, features, rngs=rngs)

    def __call__(
        self, sequence: Sequence, query: Query, key: Key[Array, ""] | None = None, rate: Float[Arr, ""] | float = 0.0
    ) -> Float[Array, "b q h"]:
        valid = jnp.asarray(sequence.valid)[..., None]
        observed = sequence.observed & valid
        x = jnp.where(observed, sequence.x, 0)
        total, seen, visits = (jnp.cumsum(part.astype(x.dtype), axis=1) for part in (x, observed, valid))
        pooled = jnp.concatenate([total / jnp.maximum(seen, 1), seen / jnp.maximum(visits, 1)], axis=-1)
        return jnp.tanh(self.out(after(at_origin(pooled, query), years_ahead(sequence, query))))
