"""Reads the MNI152 anatomy that nilearn ships: intensities, and the tissues drawn from them.

This module reads NIfTI by itself, as the ingesting modules do, because the template is a fixed resource of a
package and no subject's data. Source: ICBM 2009a symmetric, Fonov et al. 2011, NeuroImage 54:313.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage

from framework.errors import UserError

FILES = "datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
LATERAL_CENTRE = np.array([13.9, -14.7, 14.5])  # mm; centre of mass of one lateral ventricle, the other mirrored
MIDDLE = ((-50, 50), (-80, 50), (-35, 50))  # mm; a box that holds the lateral ventricles with room to spare
MAPS = ("t1", "flair", "brain", "ventricles", "cortex", "fluid", "inner")
Map = Float[np.ndarray, "x y z"]


@dataclass(frozen=True)
class Template:
    """Maps on one grid: voxel (i, j, k) has its centre at `origin + spacing * (i, j, k)` mm.

    `t1` and `flair` are intensities (white matter near 0.87 in T1), the others tissue fractions, 0 to 1:
    `fluid` is that outside the lateral ventricles, `inner` the white matter and the grey matter that is no cortex.
    """

    t1: Map
    flair: Map
    brain: Map
    ventricles: Map
    cortex: Map
    fluid: Map
    inner: Map
    origin: Float[np.ndarray, "3"]
    spacing: float

    def millilitres(self, fraction: Map) -> float:
        return float(fraction.sum(dtype=np.float64)) * self.spacing**3 / 1000

    def axes(self) -> list[np.ndarray]:
        """The coordinates in mm, ready to broadcast."""
        lines = [start + self.spacing * np.arange(n) for start, n in zip(self.origin, self.t1.shape, strict=True)]
        return list(np.meshgrid(*lines, indexing="ij", sparse=True))

    def halved(self) -> "Template":
        """The template on twice the spacing, each voxel the mean of eight."""
        maps = {name: _halve(getattr(self, name)) for name in MAPS}
        return Template(**maps, origin=self.origin + np.float32(self.spacing / 2), spacing=self.spacing * 2)


def _halve(fraction: Map) -> Float[np.ndarray, "hx hy hz"]:
    x, y, z = (n // 2 for n in fraction.shape)
    return fraction[: 2 * x, : 2 * y, : 2 * z].reshape(x, 2, y, 2, z, 2).mean((1, 3, 5))


def read() -> Template:
    """The template at 1 mm; raises UserError where nilearn's data are not installed."""
    images = [Nifti1Image.from_filename(_folder() / FILES.format(name)) for name in ("t1", "gm", "wm")]
    t1, grey, white = (np.asarray(image.dataobj, np.float32) / 255 for image in images)
    origin = np.asarray(images[0].affine, np.float32)[:3, 3]
    brain = np.asarray(ndimage.binary_fill_holes(t1 > 0), np.float32)
    fluid = brain * np.clip(1 - grey - white, 0, 1)
    middle = tuple(
        slice(int(low - start), int(high - start)) for (low, high), start in zip(MIDDLE, origin, strict=True)
    )
    corner = origin + [part.start for part in middle]
    lateral = _lateral_ventricles((fluid[middle] > 0.5) & (t1[middle] < 0.45), corner)
    near, wall = np.zeros((2, *t1.shape), bool)
    near[middle] = ndimage.binary_dilation(lateral, iterations=2)
    wall[middle] = ndimage.binary_dilation(lateral, iterations=4)
    blank = Template(t1, t1, brain, fluid, grey, fluid, white, origin, 1.0)
    cortex = grey * ~(_below_cortex(*blank.axes()) | wall)
    flair = 0.75 * grey + 0.62 * white + 0.08 * fluid  # fluid suppressed, grey just above white matter
    return Template(t1, flair, brain, fluid * near, cortex, fluid * ~wall, grey + white - cortex, origin, 1.0)


def _folder() -> Path:
    spec = find_spec("nilearn")
    folder = Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None
    if folder is None or not (folder / FILES.format("t1")).exists():
        raise UserError(
            "nilearn's MNI152 template was not found; the simulated cohort grows on it: pip install 'prognax[demo]'"
        )
    return folder


def _lateral_ventricles(dark: Bool[np.ndarray, "x y z"], corner: Float[np.ndarray, "3"]) -> Bool[np.ndarray, "x y z"]:
    """The two pieces of dark fluid whose centres of mass are those of the lateral ventricles."""
    labels = np.empty(dark.shape, np.int32)
    ndimage.label(dark, output=labels)
    large = np.flatnonzero(np.bincount(labels.ravel())[1:] > 5000) + 1
    centres = np.array(ndimage.center_of_mass(dark, labels, large)) + corner
    centres[:, 0] = np.abs(centres[:, 0])
    return np.isin(labels, large[np.linalg.norm(centres - LATERAL_CENTRE, axis=1) < 3])


def _below_cortex(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Deep grey matter, cerebellum and brain stem, by plain shapes in MNI space (mm), checked by eye."""
    deep = (x / 36) ** 2 + ((y + 8) / 34) ** 2 + ((z - 2) / 21) ** 2 < 1
    tentorium = -14 - 0.12 * (y + 60) - 0.16 * np.maximum(np.abs(x) - 12, 0)
    cerebellum = (y < -32) & (y > -98) & (np.abs(x) < 56) & (z < tentorium)
    stem = (np.abs(x) < 18) & (y < -8) & (y > -45) & (z < -8)
    return deep | cerebellum | stem
