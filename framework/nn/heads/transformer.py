"""A causal transformer (Vaswani et al. 2017) whose positions are times in years."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Key

from framework.errors import UserError
from framework.history import at_origin
from framework.nn.heads.base import Head, years_ahead
from framework.nn.heads.gru import after, inputs
from framework.nn.heads.recurrence import gaps
from framework.nn.layers import Dense, standardised
from framework.types import Arr, Query, Sequence


class Transformer(Head):
    """Visits attend to themselves and those before; each query then attends to the visits up to its origin.

    Times enter as rotations of queries and keys, at periods from `shortest` to `longest` years, so that attention sees
    differences of time and no position (rotary encoding, Su et al. 2021, its index replaced by a time).
    """

    def __init__(
        self,
        features: int,
        layers: int,
        heads: int,
        shortest: float,
        longest: float,
        *,
        d_in: int,
        rngs: nnx.Rngs,
    ):
        if features % (2 * heads):
            raise UserError(f"features={features} do not split into {heads} heads of an even size; use {8 * heads}")
        self.out_features = features
        self.enter = Dense(2 * d_in + 1, features, rngs=rngs)
        periods = (heads, shortest, longest)
        self.blocks = nnx.List([Block(features, *periods, rngs=rngs) for _ in range(layers)])
        self.asking = nnx.Param(jax.random.normal(rngs.params(), (features,)))
        self.answer = Attention(features, *periods, rngs=rngs)
        self.out = Dense(2 * features + 2, features, rngs=rngs)

    def __call__(
        self, sequence: Sequence, query: Query, key: Key[Array, ""] | None = None, rate: Float[Arr, ""] | float = 0.0
    ) -> Float[Array, "b q h"]:
        valid = jnp.asarray(sequence.valid)
        observed = jnp.asarray(sequence.observed) & valid[..., None]
        dt = gaps(sequence.times, valid)
        times, place = jnp.cumsum(dt, axis=1), jnp.arange(valid.shape[1])
        x = self.enter(inputs(jnp.where(observed, sequence.x, 0), observed, dt))
        for block in self.blocks:
            x = block(x, times, (place <= place[:, None]) & valid[:, None])
        x, ahead = standardised(x), years_ahead(sequence, query)
        asking = jnp.broadcast_to(self.asking[...], (*ahead.shape, self.out_features))
        seen = (place <= jnp.asarray(query.origin)[..., None]) & valid[:, None]
        answer = self.answer(asking, at_origin(times, query.origin) + ahead, x, times, seen)
        return jnp.tanh(self.out(after(jnp.concatenate([answer, at_origin(x, query.origin)], -1), ahead)))


class Block(nnx.Module):
    """Attention and two layers, each added to what enters it standardised (Xiong et al. 2020)."""

    def __init__(self, features: int, heads: int, shortest: float, longest: float, *, rngs: nnx.Rngs):
        self.attention = Attention(features, heads, shortest, longest, rngs=rngs)
        self.wide, self.back = Dense(features, 4 * features, rngs=rngs), Dense(4 * features, features, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b t h"], times: Float[Array, "b t"], seen: Bool[Array, "b t t"]
    ) -> Float[Array, "b t h"]:
        even = standardised(x)
        x = x + self.attention(even, times, even, times, seen)
        return x + self.back(jax.nn.gelu(self.wide(standardised(x))))


class Attention(nnx.Module):
    """Multi-head attention (Vaswani et al. 2017, Eq. 1) with rotary times."""

    def __init__(self, features: int, heads: int, shortest: float, longest: float, *, rngs: nnx.Rngs):
        self.heads, self.shortest, self.longest = heads, shortest, longest
        self.query, self.key, self.value, self.out = (Dense(features, features, rngs=rngs) for _ in range(4))

    def __call__(
        self,
        asks: Float[Array, "b q h"],
        when: Float[Array, "b q"],
        x: Float[Array, "b t h"],
        times: Float[Array, "b t"],
        seen: Bool[Array, "b q t"],
    ) -> Float[Array, "b q h"]:
        query, key = self.turned(self.query(asks), when), self.turned(self.key(x), times)
        logits = jnp.einsum("bqnd,btnd->bnqt", query, key) / jnp.sqrt(jnp.asarray(query.shape[-1], x.dtype))
        # where there is nothing to see, whatever comes out, it is a finite number
        share = jax.nn.softmax(jnp.where(seen[:, None], logits, jnp.finfo(x.dtype).min))
        answer = jnp.einsum("bnqt,btnd->bqnd", share, self._split(self.value(x)))
        return self.out(answer.reshape(asks.shape))

    def turned(self, x: Float[Array, "b s h"], times: Float[Array, "b s"]) -> Float[Array, "b s n d"]:
        """Each pair of features of a head turned by 2π time / its period."""
        even, odd = jnp.split(self._split(x), 2, axis=-1)
        periods = jnp.geomspace(self.shortest, self.longest, even.shape[-1], dtype=x.dtype)
        angle = (2 * jnp.pi * times[..., None] / periods)[:, :, None]
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        return jnp.concatenate([even * cos - odd * sin, even * sin + odd * cos], axis=-1)

    def _split(self, x: Float[Array, "b s h"]) -> Float[Array, "b s n d"]:
        return x.reshape(*x.shape[:2], self.heads, -1)
