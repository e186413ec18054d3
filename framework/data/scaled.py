"""A scan of a cohort as networks are shown it."""

import numpy as np
from jaxtyping import Float

from framework.data.store import Cohort
from framework.image.normalise import normalise


def scaled(cohort: Cohort, modality: str, subject: int, visit: int) -> Float[np.ndarray, "x y z c"]:
    """One scan from disk: intensities in arbitrary units on a common scale, those that have a unit as they are."""
    voxels = cohort.voxels(modality, subject, visit)
    return normalise(voxels) if cohort.schema.modality(modality).units == "arbitrary" else voxels
