"""A diagonal state-space model in continuous time (S5: Smith et al. 2023; LRU: Orvieto et al. 2023)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Complex, Float, Key

from framework.history import at_origin
from framework.nn.heads.base import Head, years_ahead
from framework.nn.heads.gru import after, inputs
from framework.nn.heads.recurrence import gaps
from framework.nn.layers import Dense, standardised
from framework.types import Arr, Query, Sequence


class SSM(Head):
    """`layers` of modes that decay and turn at rates of their own, each run over all visits by one associative scan.

    To the query the last layer's modes simply run on. Modes start with decays spread from 1/`slowest` to
    1/`fastest` a year (both in years).
    """

    def __init__(self, features: int, layers: int, fastest: float, slowest: float, *, d_in: int, rngs: nnx.Rngs):
        self.out_features = features
        self.enter = Dense(2 * d_in + 1, features, rngs=rngs)
        self.layers = nnx.List([Modes(features, fastest, slowest, rngs=rngs) for _ in range(layers)])
        self.out = Dense(2 * features + 2, features, rngs=rngs)

    def __call__(
        self, sequence: Sequence, query: Query, key: Key[Array, ""] | None = None, rate: Float[Arr, ""] | float = 0.0
    ) -> Float[Array, "b q h"]:
        valid = jnp.asarray(sequence.valid)
        observed = jnp.asarray(sequence.observed) & valid[..., None]
        dt = gaps(sequence.times, valid)
        u = self.enter(inputs(jnp.where(observed, sequence.x, 0), observed, dt))
        ahead = years_ahead(sequence, query)
        for layer in self.layers:
            states = layer.run(standardised(u), dt, valid)
            before, u = u, u + layer.mixed(layer.read(states))
        at = layer.read(at_origin(states, query.origin) * layer.passage(ahead))
        last = at_origin(before, query.origin) + layer.mixed(at)
        return jnp.tanh(self.out(after(jnp.concatenate([last, at_origin(u, query.origin)], -1), ahead)))


class Modes(nnx.Module):
    """x' = Λx between visits, x + Bu at a visit: an impulse, since how long a finding lasts is not known."""

    def __init__(self, features: int, fastest: float, slowest: float, *, rngs: nnx.Rngs):
        decay = jnp.geomspace(1 / slowest, 1 / fastest, features)
        self.decay = nnx.Param(jnp.log(decay))  # log of -Re Λ, a year: never unstable (Orvieto et al. 2023)
        self.turn = nnx.Param(jnp.pi * decay * jax.random.uniform(rngs.params(), (features,)))  # Im Λ, a year
        self.real, self.imaginary = (Dense(features, features, rngs=rngs) for _ in range(2))  # B
        self.back = Dense(2 * features, features, rngs=rngs)  # C: Re(Cx) as real products
        self.mix = Dense(features, 2 * features, rngs=rngs)

    def passage(self, years: Float[Array, "*b"]) -> Complex[Array, "*b h"]:
        """exp(Λ years): the zero-order hold's Λ̄ (Smith et al. 2023)."""
        years = years[..., None]
        size = jnp.exp(-jnp.exp(self.decay[...]) * years)
        angle = self.turn[...] * years
        return lax.complex(size * jnp.cos(angle), size * jnp.sin(angle))

    def run(
        self, u: Float[Array, "b t h"], dt: Float[Array, "b t"], valid: Bool[Array, "b t"]
    ) -> Complex[Array, "b t h"]:
        """x_k = exp(Λ dt_k) x_{k-1} + B u_k at every visit by an associative scan (Smith et al. 2023)."""
        # what a mode of slow decay adds up is scaled down by what it holds (γ of Orvieto et al. 2023)
        scale = jnp.sqrt(-jnp.expm1(-2 * jnp.exp(self.decay[...])))
        enters = lax.complex(scale * self.real(u), scale * self.imaginary(u))
        steps = (self.passage(dt), jnp.where(valid[..., None], enters, 0))  # a padded visit takes no time
        return lax.associative_scan(_after_another, steps, axis=1)[1]

    def read(self, states: Complex[Array, "*b h"]) -> Float[Array, "*b h"]:
        """y = Re(Cx)."""
        return self.back(jnp.concatenate([states.real, states.imag], axis=-1))

    def mixed(self, y: Float[Array, "*b h"]) -> Float[Array, "*b h"]:
        """A gated nonlinearity across features (Dauphin et al. 2017)."""
        value, gate = jnp.split(self.mix(jax.nn.gelu(y)), 2, axis=-1)
        return value * jax.nn.sigmoid(gate)


def _after_another(one: tuple[Array, Array], two: tuple[Array, Array]) -> tuple[Array, Array]:
    """Two stretches of time as one (Blelloch 1990)."""
    return two[0] * one[0], two[0] * one[1] + two[1]
