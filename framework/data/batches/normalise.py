"""A scan of a cohort as networks are shown it."""

import numpy as np
from jaxtyping import Float

from framework.data.cohort.store import Cohort
from framework.image.normalise import normalise


def scaled(cohort: Cohort, modality: str, subject: int, visit: int) -> Float[np.ndarray, "x y z c"]:
    """One scan from disk with its background at 0, as padding and augmentation take it to be.

    Intensities in arbitrary units are brought to a scale of their own; those that have a unit keep it.
    """
    about = cohort.schema.modality(modality)
    voxels = cohort.voxels(modality, subject, visit)
    if about.background:
        voxels = voxels - np.float32(about.background)
    return normalise(voxels) if about.units == "arbitrary" else voxels
