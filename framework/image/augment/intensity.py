"""Variations that scanners bring: noise, contrast, shading, a part that is missing."""

from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from framework.image.augment.base import Transform
from framework.types import Scans


@dataclass(frozen=True)
class Noise(Transform):
    """Gaussian noise of its own in every scan, its sd drawn between 0 and `sd` (1 is bright tissue)."""

    sd: float
    same: ClassVar[str] = "scan"

    def __post_init__(self):
        self._within(0.0, sd=self.sd)

    def __call__(self, scans: Scans, key: Key[Array, ""]) -> Float[Array, "n x y z c"]:
        for_level, for_noise = jax.random.split(key)
        level = self.sd * self.draw(jax.random.uniform, scans, for_level)
        voxels = jnp.asarray(scans.voxels)
        return voxels + level[:, None, None, None, None] * jax.random.normal(for_noise, voxels.shape)


@dataclass(frozen=True)
class Gamma(Transform):
    """Contrast: each channel, between its lowest and its highest voxel, to a power from 1 / (1 + size) to 1 + size."""

    size: float
    same: str = field(default="scan", kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        self._within(0.0, size=self.size)

    def __call__(self, scans: Scans, key: Key[Array, ""]) -> Float[Array, "n x y z c"]:
        by = jnp.log1p(self.size) * self.draw(partial(jax.random.uniform, minval=-1, maxval=1), scans, key)
        voxels = jnp.asarray(scans.voxels)
        low, high = (f(voxels, (1, 2, 3), keepdims=True) for f in (jnp.min, jnp.max))
        width = jnp.where(high > low, high - low, 1)
        return low + width * ((voxels - low) / width) ** jnp.exp(by)[:, None, None, None, None]


@dataclass(frozen=True)
class BiasField(Transform):
    """Smooth shading: its logarithm is a polynomial of `degree` in x, y and z from -1 to 1, each coefficient's sd
    `size`.
    """

    size: float
    degree: int = 1
    same: str = field(default="scan", kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        self._within(0.0, size=self.size)
        self._within(1.0, degree=float(self.degree))

    def __call__(self, scans: Scans, key: Key[Array, ""]) -> Float[Array, "n x y z c"]:
        powers = sorted(p for p in product(range(self.degree + 1), repeat=3) if 1 <= sum(p) <= self.degree)[::-1]
        slopes = self.size * self.draw(jax.random.normal, scans, key, (len(powers),))
        return jnp.asarray(scans.voxels) * jnp.exp(_polynomial(slopes, powers, scans.voxels.shape[1:4]))[..., None]


@dataclass(frozen=True)
class Cutout(Transform):
    """A box, `size` of each side long, somewhere inside the scan, becomes background (0)."""

    size: float
    same: str = field(default="subject", kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        self._within(0.0, 1.0, size=self.size)

    def __call__(self, scans: Scans, key: Key[Array, ""]) -> Float[Array, "n x y z c"]:
        place, inside = self.draw(jax.random.uniform, scans, key, (3,)), jnp.ones(())
        for axis, n in enumerate(scans.voxels.shape[1:4]):
            width = n if n == 1 and self.size else round(self.size * n)
            start = jnp.floor(place[:, axis, None] * (n - width + 1))
            within = (jnp.arange(n) >= start) & (jnp.arange(n) < start + width)
            inside = inside * jnp.expand_dims(within, [a for a in (1, 2, 3) if a != axis + 1])
        return jnp.where(inside[..., None] > 0, 0, scans.voxels)


def _polynomial(
    slopes: Float[Array, "n p"], powers: list[tuple[int, ...]], shape: tuple[int, ...]
) -> Float[Array, "n x y z"]:
    """The sum of slope · xⁱ yʲ zᵏ over `powers`; along an axis one voxel long the coordinate is 0."""
    x, y, z = (jnp.linspace(-1, 1, n) if n > 1 else jnp.zeros(1) for n in shape)
    coordinates = (x[:, None, None], y[:, None], z)
    total = jnp.zeros((len(slopes), *(1 for _ in shape)))
    for place, power in enumerate(powers):
        term = slopes[:, place, None, None, None]
        for coordinate, times in zip(coordinates, power, strict=True):
            for _ in range(times):
                term = term * coordinate
        total = total + term
    return jnp.broadcast_to(total, (len(slopes), *shape))
