"""Intensities on a common scale, from the scan's own voxels alone."""

import numpy as np
from jaxtyping import Float


def normalise(voxels: Float[np.ndarray, "x y z c"]) -> Float[np.ndarray, "x y z c"]:
    """Divide each channel by the mean of its bright voxels (above half of the 99th percentile).

    MR intensities have no unit and change with the scanner's gain. The background stays where it was: 0.
    A channel with no signal is returned as it is.
    """
    top = np.percentile(voxels, 99, axis=(0, 1, 2))
    bright = voxels > top / 2
    mean = np.where(bright, voxels, 0).sum((0, 1, 2)) / np.maximum(bright.sum((0, 1, 2)), 1)
    return (voxels / np.where(mean > 0, mean, 1)).astype(np.float32)
