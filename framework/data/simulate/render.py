"""From a subject's head and amplitudes of change to voxels: one gather through three maps, then averages.

A point of the scanner's grid goes through the subject's own head (size and smooth warp), the thinning of the
cortex and the widening of the ventricles to a place in the template; there intensities and tissues are read
together, so that the volumes reported are those of the image. Points are finer than voxels and averaged down.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import ndimage

from framework.data.simulate.anatomy import SPACING, Anatomy, Flow, carry
from framework.data.simulate.course import Parameters
from framework.data.simulate.interpolate import trilinear
from framework.errors import UserError

FIELD_OF_VIEW = 192.0  # mm, a cube about the centre of the brain
CENTRE = (0.0, -17.0, 5.0)  # mm in the template
FINER = {32: 3, 64: 2, 96: 2}  # points a voxel along each axis: 2, 1.5 and 1 mm apart
POINTS = 1 << 16  # points rendered at once, few enough for the cache
CHANNELS = ("t1", "flair", "ventricles", "cortex")


@dataclass(frozen=True)
class Head:
    """Where in the template the points of a subject's voxels lie (mm): only voxels that hold brain are kept."""

    voxels: Int[np.ndarray, "n"]
    points: Float[np.ndarray, "n m 3"]
    inner: Int[np.ndarray, "k"]  # those of the n that the ventricles can reach
    icv: float  # mL


@dataclass(frozen=True)
class Renderer:
    """Renders heads on one grid of `size`³ voxels."""

    anatomy: Anatomy
    maps: Float[Array, "x y z 4"]
    regions: Float[Array, "x y z 3"]
    origin: Float[np.ndarray, "3"]
    spacing: float
    size: int

    @property
    def voxel(self) -> float:
        """The side of a voxel in mm."""
        return FIELD_OF_VIEW / self.size

    def head(self, icv: float, rng: np.random.Generator, p: Parameters) -> Head:
        """A head of about `icv` mL with an anatomy of its own."""
        scale = (icv / p.template_icv) ** (1 / 3)
        points = _points(_warp(rng, p), scale, self.size)
        near, inner, brain = np.asarray(_touched(self.regions, self.anatomy.coarse.origin, points)).T
        kept = np.flatnonzero(near)
        volume = float(brain.sum(dtype=np.float64)) * self.voxel**3 / 1000
        return Head(kept, np.asarray(points)[kept], np.flatnonzero(inner[kept]), volume)

    def maps_of(self, head: Head, log_ventricles: float, cortex_loss: float) -> Float[np.ndarray, "x y z 4"]:
        """The voxels of `CHANNELS`, the ventricles `log_ventricles` larger than the template's."""
        found = np.zeros((self.size**3, len(CHANNELS)), np.float32)
        found[head.voxels] = self._sample(head.points, log_ventricles, cortex_loss)
        return found.reshape(self.size, self.size, self.size, -1)

    def ventricles(self, head: Head, log_ventricles: float, cortex_loss: float) -> float:
        """The ventricles' volume in mL that `maps_of` would show, from their surroundings alone."""
        sampled = self._sample(head.points[head.inner], log_ventricles, cortex_loss)
        return self.millilitres(sampled[:, CHANNELS.index("ventricles")])

    def millilitres(self, fraction: Float[np.ndarray, "..."]) -> float:
        return float(fraction.sum(dtype=np.float64)) * self.voxel**3 / 1000

    def _sample(self, points: Float[np.ndarray, "n m 3"], log_ventricles: float, cortex_loss: float) -> np.ndarray:
        fields = _between(self.anatomy.cortex, -cortex_loss), _between(self.anatomy.ventricles, log_ventricles)
        size = POINTS // points.shape[1]
        padded = np.resize(points, (-(-len(points) // size) * size, *points.shape[1:]))
        chunks = [self._read(padded[start : start + size], *fields) for start in range(0, len(padded), size)]
        return np.concatenate(chunks)[: len(points)]

    def _read(self, points: np.ndarray, *fields: Float[Array, "x y z 3"]) -> np.ndarray:
        """The mean of the maps over each voxel's points, carried through the displacements in turn."""
        places = jnp.asarray(points)
        for field in fields:
            places = places + trilinear(field, places, self.anatomy.coarse.origin, SPACING)
        return np.asarray(trilinear(self.maps, places, self.origin, self.spacing)).mean(1)


def renderer(anatomy: Anatomy, size: int) -> Renderer:
    """A renderer for 32³, 64³ or 96³ voxels; coarse voxels read the template at 2 mm, the others at 1 mm."""
    if size not in FINER:
        raise UserError(f"{size} voxels a side; the simulated scans come with {sorted(FINER)}: choose one of them")
    template = anatomy.coarse if size == 32 else anatomy.fine
    maps = jnp.stack([jnp.asarray(getattr(template, name)) for name in CHANNELS], -1)
    brain = anatomy.coarse.brain
    widest = np.asarray(
        carry(jnp.asarray(anatomy.coarse.ventricles)[..., None], anatomy.ventricles.displacement[-1] / SPACING)
    )[..., 0]
    reach = [ndimage.binary_dilation(brain > 0, iterations=2), ndimage.binary_dilation(widest > 0, iterations=4)]
    regions = jnp.asarray(np.stack([*reach, brain], -1), jnp.float32)
    return Renderer(anatomy, maps, regions, template.origin, template.spacing, size)


def _warp(rng: np.random.Generator, p: Parameters) -> Float[np.ndarray, "3 k k k"]:
    """Random coefficients (mm) of a cosine series with a Gaussian spectrum, `warp` mm root mean square."""
    k = np.arange(p.warp_modes + 1)
    spectrum = np.exp(-0.5 * (k[:, None, None] ** 2 + k[:, None] ** 2 + k**2) / (p.warp_modes / 2) ** 2)
    spectrum[0, 0, 0] = 0  # a shift is no anatomy
    halves = np.where(k == 0, 1.0, 0.5)
    power = (spectrum**2 * halves[:, None, None] * halves[:, None] * halves).sum()
    coefficients = rng.normal(size=(3, *spectrum.shape)) * spectrum * p.warp / np.sqrt(3 * power)
    return coefficients.astype(np.float32)


@partial(jax.jit, static_argnames="size")
def _points(warp: Float[Array, "3 k k k"], scale: Float[Array, ""] | float, size: int) -> Float[Array, "n m 3"]:
    """The place in the template, in mm, of every point of every voxel."""
    finer = FINER[size]
    at = (jnp.arange(size * finer) + 0.5) / (size * finer)
    waves = jnp.cos(jnp.pi * jnp.arange(warp.shape[1])[:, None] * at)
    shift = jnp.einsum("cijk,ix,jy,kz->xyzc", warp, waves, waves, waves, optimize=True)
    plain = (at - 0.5) * FIELD_OF_VIEW / scale
    points = jnp.stack(jnp.meshgrid(plain, plain, plain, indexing="ij"), -1) + jnp.array(CENTRE) + shift
    blocks = points.reshape(size, finer, size, finer, size, finer, 3).transpose(0, 2, 4, 1, 3, 5, 6)
    return blocks.reshape(size**3, finer**3, 3)


@jax.jit
def _touched(regions: Float[Array, "x y z 3"], origin: Float[Array, "3"], points: Float[Array, "n m 3"]):
    """Whether a voxel touches the first two regions, and how much of it is in the third, the brain."""
    last = jnp.array(regions.shape[:3]) - 1
    i, j, k = jnp.moveaxis(jnp.clip(jnp.round((points - origin) / SPACING).astype(jnp.int32), 0, last), -1, 0)
    touched = regions[i, j, k]
    return jnp.concatenate([touched[..., :2].max(1), touched[..., 2:].mean(1)], -1)


def _between(flow: Flow, amplitude: float) -> Float[Array, "x y z 3"]:
    return _blend(flow.displacement, *flow.at(amplitude))


@jax.jit
def _blend(displacement: Float[Array, "k x y z 3"], low, share) -> Float[Array, "x y z 3"]:
    return displacement[low] * (1 - share) + displacement[low + 1] * share
