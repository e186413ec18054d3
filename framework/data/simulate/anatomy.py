"""How ventricles widen and cortex thins: two displacement fields grown step by step on the template at 2 mm.

A step solves Poisson's equation for a potential whose gradient diverges evenly within the tissue that changes
(+1 in the ventricles, -1 in the cortex) and takes the same volume from, or gives it to, what yields (the
white matter and deep nuclei about the ventricles; the fluid in the sulci and the space outside). The tissues are
carried along, so that the flow follows them, and being a flow it never folds.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from scipy import fft, ndimage

from framework.data.simulate.interpolate import trilinear
from framework.data.simulate.template import Template, read

SPACING = 2.0  # mm, of the displacement fields


@dataclass(frozen=True)
class Flow:
    """Displacements (mm) at increasing amplitudes: deformed map at x = template map at x + displacement.

    The amplitude is the logarithm of the tissue's volume over the template's, as summed over the deformed map.
    """

    amplitude: Float[np.ndarray, "k"]
    displacement: Float[Array, "k x y z 3"]

    def at(self, amplitude: float) -> tuple[int, float]:
        """The knot below an amplitude and the share of the one above; beyond the last knots, those."""
        low = int(np.clip(np.searchsorted(self.amplitude, amplitude) - 1, 0, len(self.amplitude) - 2))
        share = (amplitude - self.amplitude[low]) / (self.amplitude[low + 1] - self.amplitude[low])
        return low, float(np.clip(share, 0, 1))


@dataclass(frozen=True)
class Anatomy:
    """The template and its two ways to change; `origin` and `SPACING` are those of the displacements."""

    fine: Template
    coarse: Template
    ventricles: Flow
    cortex: Flow


def build() -> Anatomy:
    """Read the template and grow both flows: some seconds."""
    fine = read()
    coarse = fine.halved()
    widening = grow(coarse.ventricles, _about_ventricles(coarse), 1.0, np.linspace(0, 5.2, 17), np.linspace(0, -1.8, 7))
    thinning = grow(coarse.cortex, _about_cortex(coarse), -1.0, np.linspace(0, 1.4, 9), np.linspace(0, -0.4, 3))
    return Anatomy(fine, coarse, widening, thinning)


def _about_ventricles(template: Template) -> Float[np.ndarray, "x y z"]:
    """Tissue that gives way to the ventricles: the less, the farther from them."""
    return template.inner * _nearness(template.ventricles > 0.5, 15.0)


def _about_cortex(template: Template) -> Float[np.ndarray, "x y z"]:
    """Tissue that takes the room that the cortex leaves: sulcal fluid, and half as readily the space just outside.

    The basal cisterns and the third ventricle are left out; they do not widen as sulci do.
    """
    x, y, z = template.axes()
    cisterns = (np.abs(x) < 24) & (y > -64) & (y < 12) & (z < 20)
    outside = 0.5 * (template.brain < 0.5) * _nearness(template.brain > 0.5, 4.0)
    beside = np.minimum(1, ndimage.gaussian_filter(template.cortex, 4.0 / SPACING) / 0.2)
    return beside * (template.fluid * ~cisterns + outside).astype(np.float32)


def _nearness(mask: Bool[np.ndarray, "x y z"], reach: float) -> Float[np.ndarray, "x y z"]:
    """1 in the mask, falling off as a Gaussian of the distance from it, `reach` its sd in mm."""
    distance = ndimage.distance_transform_edt(~mask, sampling=SPACING)
    return np.exp(-0.5 * (np.asarray(distance) / reach) ** 2).astype(np.float32)


def grow(changing: np.ndarray, yielding: np.ndarray, sign: float, *ways: np.ndarray) -> Flow:
    """The flow in which `changing` swells (sign 1) or shrinks (-1) at an even rate, at the pseudo-times of `ways`.

    Each way starts at 0, the template itself, and runs forwards or backwards in equal steps.
    """
    tissues = jnp.stack([jnp.asarray(changing), jnp.asarray(yielding)], -1)
    still = jnp.zeros((*changing.shape, 3), jnp.float32)
    found = [(0.0, still)]
    for way in ways:
        displacement, moved = still, tissues
        for step in np.diff(way):
            velocity = jnp.asarray(_velocity(np.asarray(moved), sign))
            displacement = _advance(displacement, velocity, step)
            moved = carry(tissues, displacement)
            swollen = np.asarray(moved[..., 0]).sum(dtype=np.float64)
            found.append((float(np.log(swollen / changing.sum(dtype=np.float64))), displacement))
    found.sort(key=lambda knot: knot[0])
    millimetres = jnp.stack([displacement for _, displacement in found]) * SPACING
    return Flow(np.array([amplitude for amplitude, _ in found]), millimetres)


def _grid(shape: tuple[int, ...]) -> Float[Array, "x y z 3"]:
    return jnp.stack(jnp.meshgrid(*[jnp.arange(n, dtype=jnp.float32) for n in shape], indexing="ij"), -1)


def _advance(displacement: Float[Array, "x y z 3"], velocity: Float[Array, "x y z 3"], step: float):
    """One semi-Lagrangian step: where the matter now at x came from, by the midpoint rule, and on from there."""
    grid = _grid(displacement.shape[:3])
    shift = step * trilinear(velocity, grid - step / 2 * velocity)
    return trilinear(displacement, grid - shift) - shift


def carry(tissues: Float[Array, "x y z c"], displacement: Float[Array, "x y z 3"]) -> Float[Array, "x y z c"]:
    """The maps deformed by a displacement in voxels."""
    return trilinear(tissues, _grid(displacement.shape[:3]) + displacement)


def _velocity(tissues: Float[np.ndarray, "x y z 2"], sign: float) -> Float[np.ndarray, "x y z 3"]:
    """The gradient field (voxels) with divergence `sign` in the first tissue, balanced in the second."""
    changing, yielding = tissues[..., 0], tissues[..., 1]
    divergence = sign * (changing - yielding * (changing.sum() / yielding.sum()))
    spectrum = fft.dctn(divergence, workers=2)
    cosines = [2 * np.cos(np.pi * np.arange(n, dtype=np.float32) / n) - 2 for n in divergence.shape]
    eigenvalues = cosines[0][:, None, None] + cosines[1][:, None] + cosines[2]
    eigenvalues[0, 0, 0] = 1
    spectrum /= eigenvalues
    spectrum[0, 0, 0] = 0
    potential = np.asarray(fft.idctn(spectrum, workers=2))
    return np.stack([np.gradient(potential, axis=axis) for axis in range(3)], -1)
