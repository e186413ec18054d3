"""A causal transformer (Vaswani et al. 2017) whose positions are times in years."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from framework.errors import UserError
from framework.history import at_origin, last_observed, of_rows
from framework.nn.dropout import dropout
from framework.nn.heads.base import Head, years_ahead
from framework.nn.heads.gru import after, inputs
from framework.nn.heads.rnn import gaps
from framework.nn.layers import Dense, standardised
from framework.types import Arr, Query, Sequence


class Transformer(Head):
    """Causal transformer: visits attend to themselves and earlier ones; a query is a visit hidden from all others.

    Times enter as rotations of queries and keys, at periods from `shortest` to `longest` years, so that attention sees
    differences of time and no position (rotary encoding, Su et al. 2021, its index replaced by a time), and each head
    fades over years at a rate that it learns (Press et al. 2022, likewise). A token also holds the last observed
    value of each variable and its age, which would cost a block to look up. Dropout acts on the attention weights and
    the output of each layer (Vaswani et al. 2017, 5.4).
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
        self.enter = Dense(5 * d_in + 1, features, rngs=rngs)
        self.ask = Dense(1, features, rngs=rngs)
        self.blocks = nnx.List([Block(features, heads, shortest, longest, rngs=rngs) for _ in range(layers)])
        self.out = Dense(2 * features + 2, features, rngs=rngs)

    def __call__(
        self, sequence: Sequence, query: Query, key: Key[Array, ""] | None = None, rate: Float[Arr, ""] | float = 0.0
    ) -> Float[Array, "b q h"]:
        valid = jnp.asarray(sequence.valid)
        observed = jnp.asarray(sequence.observed) & valid[..., None]
        dt, ahead = gaps(sequence.times, valid), years_ahead(sequence, query)
        times, place = jnp.cumsum(dt, axis=1), jnp.arange(valid.shape[1])
        x = self.enter(tokens(jnp.where(observed, sequence.x, 0), observed, dt, times))
        asked, when = at_origin(x, query) + self.ask(jnp.log1p(ahead)[..., None]), at_origin(times, query) + ahead
        past = (place <= place[:, None]) & valid[:, None]
        known = at_origin(jnp.broadcast_to(past, (*valid.shape, len(place))), query)
        for block in self.blocks:
            key, *keys = (None,) * 3 if key is None else jax.random.split(key, 3)
            even = standardised(x)
            asked = block(asked, when, even, times, known, keys[0], rate, query.row)
            x = block(x, times, even, times, past, keys[1], rate)
        seen = at_origin(standardised(x), query)
        return jnp.tanh(self.out(after(jnp.concatenate([standardised(asked), seen], -1), ahead)))


def tokens(
    x: Float[Array, "b t d"], observed: Bool[Array, "b t d"], dt: Float[Array, "b t"], times: Float[Array, "b t"]
) -> Float[Array, "b t i"]:
    """The inputs of a cell; for each variable its last value, whether there is one, and log(1 + years since)."""
    last, has, since = last_observed(x, observed, times)
    age = jnp.log1p(jnp.where(has, times[..., None] - since, 0))
    return jnp.concatenate([inputs(x, observed, dt), last, has.astype(x.dtype), age], axis=-1)


class Block(nnx.Module):
    """Attention and two layers, each added to what enters it standardised (Xiong et al. 2020)."""

    def __init__(self, features: int, heads: int, shortest: float, longest: float, *, rngs: nnx.Rngs):
        self.attention = Attention(features, heads, shortest, longest, rngs=rngs)
        self.wide, self.back = Dense(features, 2 * features, rngs=rngs), Dense(2 * features, features, rngs=rngs)

    def __call__(
        self,
        asks: Float[Array, "b q h"],
        when: Float[Array, "b q"],
        x: Float[Array, "s t h"],
        times: Float[Array, "s t"],
        seen: Bool[Array, "b q t"],
        key: Key[Array, ""] | None,
        rate: Float[Arr, ""] | float,
        row: Int[Arr, " b"] | None = None,
    ) -> Float[Array, "b q h"]:
        one, two, three = (None,) * 3 if key is None else jax.random.split(key, 3)
        asks = asks + dropout(self.attention(standardised(asks), when, x, times, seen, one, rate, row), rate, two)
        return asks + dropout(self.back(jax.nn.gelu(self.wide(standardised(asks)))), rate, three)


class Attention(nnx.Module):
    """Multi-head attention (Vaswani et al. 2017, Eq. 1) with rotary times, fading over years."""

    def __init__(self, features: int, heads: int, shortest: float, longest: float, *, rngs: nnx.Rngs):
        self.heads, self.shortest, self.longest = heads, shortest, longest
        self.query, self.key, self.value, self.out = (Dense(features, features, rngs=rngs) for _ in range(4))
        self.fade = nnx.Param(-jnp.log(jnp.geomspace(shortest, longest, heads)))  # log of a rate a year

    def __call__(
        self,
        asks: Float[Array, "b q h"],
        when: Float[Array, "b q"],
        x: Float[Array, "s t h"],
        times: Float[Array, "s t"],
        seen: Bool[Array, "b q t"],
        key: Key[Array, ""] | None,
        rate: Float[Arr, ""] | float,
        row: Int[Arr, " b"] | None = None,
    ) -> Float[Array, "b q h"]:
        query = self.turned(self.query(asks), when)
        context = self.turned(self.key(x), times), self._split(self.value(x)), times
        keys, values, times = (of_rows(part, row) for part in context)
        logits = jnp.einsum("bqnd,btnd->bnqt", query, keys) / jnp.sqrt(jnp.asarray(query.shape[-1], x.dtype))
        lag = jnp.where(seen, when[..., None] - times[:, None], 0)
        logits = logits - jnp.exp(self.fade[...])[:, None, None] * lag[:, None]  # Press et al. 2022, section 3
        # where there is nothing to attend to, the result is arbitrary but finite
        share = jax.nn.softmax(jnp.where(seen[:, None], logits, jnp.finfo(x.dtype).min))
        answer = jnp.einsum("bnqt,btnd->bqnd", dropout(share, rate, key), values)
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
