"""A volume held against the grid it is meant for: one that can hardly be a scan of that kind is refused.

Headers do not say that a volume is empty, a localizer, in metres, or that its background is not 0; its extent and its
values do.
"""

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from jaxtyping import Float

from framework.data.cohort.schema import Modality
from framework.data.ingest.scans.volume import Volume
from framework.errors import UserError

ARBITRARY, HU = "arbitrary", "HU"
SAMPLED = 2**21  # voxels that percentiles are taken of
BELOW, ABOVE = 0.1, 0.5  # how far the lowest values may lie from the background, as shares of the highest above it
AIR = 250.0  # HU that air may lie above its background


@dataclass(frozen=True)
class Range:
    """The lowest, the 1st percentile, the 99th and the highest of a volume's values."""

    least: float
    low: float
    high: float
    most: float


def range_of(voxels: Float[np.ndarray, "i j k"]) -> Range:
    """The range of a volume; of a large one percentiles of every n-th voxel. Raises UserError where all are alike."""
    least, most = float(voxels.min()), float(voxels.max())
    if least == most:
        raise UserError(f"all of its voxels are {least:g}: it is empty")
    flat = voxels.reshape(-1, order="F")
    low, high = np.percentile(flat[:: -(-flat.size // SAMPLED)], (1, 99))
    return Range(least, float(low), float(high), most)


def check_extent(volume: Volume, modality: Modality, cover: float, extent: float) -> str | None:
    """Return a warning where a field of view covers less than `cover` of a side of the grid.

    Raises UserError where it covers less than half of that, or is larger than scanners are.
    """
    steps = np.linalg.norm(volume.affine[:3, :3], axis=0)
    sides = steps * volume.voxels.shape
    lean = np.abs(volume.affine[:3, :3] / steps)
    axis = max(permutations(range(3)), key=lambda order: sum(lean[d, i] for i, d in enumerate(order)))
    grid = np.array(modality.shape) * np.array(modality.spacing)
    shown = f"its field of view is {_mm(sides)}"
    if sides.max() > max(extent, 2 * grid.max()):
        raise UserError(
            f"{shown}, larger than {max(extent, 2 * grid.max()):g} mm: correct its unit of length "
            "(data.reader.scans.spatial_units=mm where all headers are wrong), or raise extent of "
            f"{modality.name}'s grid (data.grid.extent)"
        )
    covered = float((sides / grid[list(axis)]).min())
    if covered >= cover:
        return None
    message = (
        f"{shown}, {covered:.1g} of the grid's {_mm(grid[list(axis)])} along one axis, as of a localizer or in a wrong "
        f"unit of length: lower cover of {modality.name}'s grid (data.grid.cover) if it is right, or correct "
        "data.reader.scans.spatial_units"
    )
    if covered < cover / 2:
        raise UserError(message)
    return message


def _mm(sides: Float[np.ndarray, " 3"]) -> str:
    return f"{' x '.join(f'{side:.4g}' for side in sides)} mm"


def check_background(found: Range, modality: Modality) -> None:
    """Raise UserError where values in arbitrary units or HU do not begin at the modality's background."""
    if modality.units not in (ARBITRARY, HU):
        return
    # a sparse map may be background in more than 99% of its voxels
    span = (found.high if found.high > modality.background else found.most) - modality.background
    named = f"its values reach from {found.low:g} to {found.high:g} (1st and 99th percentile)"
    ways = (
        f"say what {modality.name} is in: units of its grid (HU for CT: data.grid.units=HU), or their background "
        "(data.grid.background=<number>)"
    )
    # below air in HU there is only what scanners fill in, which counts as background
    if span <= 0 or (modality.units != HU and found.low < modality.background - BELOW * span):
        raise UserError(f"{named}, below the background of {modality.background:g} {modality.units}: {ways}")
    if found.least > modality.background + (AIR if modality.units == HU else ABOVE * span):
        raise UserError(
            f"{named} and none of them near the background of {modality.background:g} {modality.units}: {ways}"
        )
