"""How scans are read where their headers leave it open, or are wrong: what a user may set."""

import math
from dataclasses import dataclass

from framework.data.ingest.validate import known
from framework.errors import UserError

FORMS = ("sform", "qform")
MM = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}


@dataclass(frozen=True)
class Reading:
    """How scans are read, where their files leave it open or are wrong.

    `orientation` is sform or qform, where they contradict each other; `spatial_units` is mm, meter or micron, whatever
    headers say; `nan` is what a voxel that is NaN counts as (0 for maps that are NaN outside the brain). A scan of more
    than `voxels` is refused before memory is taken for it.
    """

    orientation: str | None = None
    spatial_units: str | None = None
    nan: float | None = None
    voxels: int = 2**28

    def __post_init__(self):
        if self.orientation is not None:
            known(self.orientation, FORMS, "scans.orientation")
        if self.spatial_units is not None:
            known(self.spatial_units, list(MM), "scans.spatial_units")
        if self.nan is not None and not math.isfinite(self.nan):
            raise UserError(f"scans.nan is {self.nan}; expected a number, such as 0")
        if self.voxels < 1:
            raise UserError(f"scans.voxels is {self.voxels}; expected 1 up")
