"""A selective state-space model in continuous time (S5: Smith et al. 2023; Mamba: Gu & Dao 2023)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Complex, Float, Key

from framework.history import at_origin
from framework.nn.dropout import dropout
from framework.nn.heads.base import Head, years_ahead
from framework.nn.heads.gru import after, inputs
from framework.nn.heads.rnn import gaps
from framework.nn.layers import Dense, standardised
from framework.types import Arr, Query, Sequence


class SSM(Head):
    """`layers` of modes that decay and turn, each run over all visits by one associative scan.

    A query goes through the layers as a visit at which nothing is seen, where each layer's modes have run on from the
    origin. Modes start with decays spread from 1/`max_time_constant` to 1/`min_time_constant` a year (both
    in years). Dropout acts on what a layer adds (Srivastava et al. 2014).
    """

    def __init__(
        self,
        features: int,
        layers: int,
        min_time_constant: float,
        max_time_constant: float,
        *,
        d_in: int,
        rngs: nnx.Rngs,
    ):
        self.out_features = features
        self.enter = Dense(2 * d_in + 1, features, rngs=rngs)
        self.ask = Dense(1, features, rngs=rngs)
        self.layers = nnx.List(
            [Modes(features, min_time_constant, max_time_constant, rngs=rngs) for _ in range(layers)]
        )
        self.out = Dense(2 * features + 2, features, rngs=rngs)

    def __call__(
        self, sequence: Sequence, query: Query, key: Key[Array, ""] | None = None, rate: Float[Arr, ""] | float = 0.0
    ) -> Float[Array, "b q h"]:
        valid = jnp.asarray(sequence.valid)
        observed = jnp.asarray(sequence.observed) & valid[..., None]
        dt, ahead = gaps(sequence.times, valid), years_ahead(sequence, query)
        u = self.enter(inputs(jnp.where(observed, sequence.x, 0), observed, dt))
        asked = self.ask(jnp.log1p(ahead)[..., None])
        for layer in self.layers:
            key, *keys = (None,) * 3 if key is None else jax.random.split(key, 3)
            even = standardised(u)
            states, pace = layer.run(even, dt, valid)
            on = layer.passage(ahead[..., None] * at_origin(pace, query)) * at_origin(states, query)
            u = u + dropout(layer.mixed(states, even), rate, keys[0])
            asked = asked + dropout(layer.mixed(on, standardised(asked)), rate, keys[1])
        return jnp.tanh(self.out(after(jnp.concatenate([asked, at_origin(u, query)], -1), ahead)))


class Modes(nnx.Module):
    """x' = pace Λx between visits; at a visit part of x is forgotten, and part of Bu enters.

    It enters as an impulse, since the duration of a finding is unknown. Pace, forgetting and entering depend on u
    (Gu & Dao 2023, Algorithm 2), as a Kalman filter's gain depends on the measured variables and the gap before them.
    """

    def __init__(self, features: int, min_time_constant: float, max_time_constant: float, *, rngs: nnx.Rngs):
        decay = jnp.geomspace(1 / max_time_constant, 1 / min_time_constant, features)
        self.decay = nnx.Param(jnp.log(decay))  # log of -Re Λ, a year: never unstable (Orvieto et al. 2023)
        self.turn = nnx.Param(jnp.pi * decay * jax.random.uniform(rngs.params(), (features,)))  # Im Λ, a year
        self.hold = nnx.Param(1 + 4 * jax.random.uniform(rngs.params(), (features,)))  # forgets 1% to 30% a visit
        self.enter = Dense(features, 2 * features, rngs=rngs)  # B
        self.select = Dense(features, 3 * features, gain=0.1, rngs=rngs)
        self.back = Dense(2 * features, features, rngs=rngs)  # C: Re(Cx) as real products
        self.mix = Dense(2 * features, 2 * features, rngs=rngs)

    def passage(self, years: Float[Array, "*b h"], keep: Float[Array, "*b h"] | float = 1.0) -> Complex[Array, "*b h"]:
        """keep · exp(Λ years): of what is kept, the zero-order hold's Λ̄ (Smith et al. 2023)."""
        size, angle = keep * jnp.exp(-jnp.exp(self.decay[...]) * years), self.turn[...] * years
        return lax.complex(size * jnp.cos(angle), size * jnp.sin(angle))

    def run(
        self, u: Float[Array, "b t h"], dt: Float[Array, "b t"], valid: Bool[Array, "b t"]
    ) -> tuple[Complex[Array, "b t h"], Float[Array, "b t h"]]:
        """The state after every visit, x_k = keep_k exp(Λ pace_k dt_k) x_{k-1} + take_k B u_k, and the pace there."""
        pace, forget, take = jnp.split(self.select(u), 3, axis=-1)
        pace = jnp.exp(jnp.tanh(pace))  # within e of the clock's
        keep = jax.nn.sigmoid(self.hold[...] - forget)
        # what a mode of slow decay adds up is scaled down by what it holds (γ of Orvieto et al. 2023)
        take = jnp.sqrt(-jnp.expm1(-2 * jnp.exp(self.decay[...]))) * jax.nn.sigmoid(take)
        real, imaginary = jnp.split(self.enter(u), 2, axis=-1)
        seen = valid[..., None]  # a padded visit takes no time and leaves the state as it is
        moves = jnp.where(seen, self.passage(dt[..., None] * pace, keep), 1)
        enters = jnp.where(seen, lax.complex(take * real, take * imaginary), 0)
        return lax.associative_scan(_after_another, (moves, enters), axis=1)[1], pace

    def mixed(self, states: Complex[Array, "*b h"], u: Float[Array, "*b h"]) -> Float[Array, "*b h"]:
        """y = Re(Cx), and with what entered through a gated nonlinearity across features (Dauphin et al. 2017)."""
        y = self.back(jnp.concatenate([states.real, states.imag], axis=-1))
        value, gate = jnp.split(self.mix(jnp.concatenate([jax.nn.gelu(y), u], axis=-1)), 2, axis=-1)
        return value * jax.nn.sigmoid(gate)


def _after_another(one: tuple[Array, Array], two: tuple[Array, Array]) -> tuple[Array, Array]:
    """Two stretches of time as one (Blelloch 1990)."""
    return two[0] * one[0], two[0] * one[1] + two[1]
