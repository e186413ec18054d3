"""Where in a volume the patient is, without registration: its bright voxels, from the top down."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

SIDE = 64  # voxels an axis that are looked at, at most


@dataclass(frozen=True)
class Foreground:
    """`centre` in mm from the centre of the field of view along right, anterior, superior; `top` along superior."""

    centre: Float[np.ndarray, "3"]
    top: float


def foreground(voxels: Float[np.ndarray, "i j k"], axes: Float[np.ndarray, "3 3"], depth: float) -> Foreground:
    """The bright voxels of a volume whose background is 0, of which the upper `depth` mm say where the centre is.

    `axes` takes steps of voxels to mm in RAS. Counting down from the top leaves out a neck that only one of two fields
    of view holds.
    """
    step = [-(-n // SIDE) for n in voxels.shape]
    thinned = voxels[:: step[0], :: step[1], :: step[2]]
    bright = np.argwhere(thinned > np.percentile(thinned, 99) / 2) * step
    if not len(bright):
        return Foreground(np.zeros(3), 0.0)
    away = (bright - (np.array(voxels.shape) - 1) / 2) @ axes.T  # mm from the centre of the field of view
    top = float(np.percentile(away[:, 2], 99.5))
    return Foreground(away[away[:, 2] >= top - depth].mean(0), top)
