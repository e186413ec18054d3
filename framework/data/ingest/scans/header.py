"""A NIfTI header, held against itself before anything it claims is believed.

What a header says twice is compared (its own length, its bytes a voxel); what no file can mean is refused in one line.
nibabel's own checks repair in silence and log to stderr, so only its tables of fields and types are used.
"""

import math
from dataclasses import dataclass
from typing import Literal

import nibabel
import numpy as np
from nibabel.nifti1 import data_type_codes

EXTENSIONS = 2**24  # bytes between header and voxels
MAGIC = {348: b"n+1", 540: b"n+2"}
LINE_ENDS = (13, 10, 26, 10)  # of NIfTI-2, changed where a file was sent as text
KINDS = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
LONGEST = max(KINDS)
Order = Literal["<", ">"]


@dataclass(frozen=True)
class Header:
    """The header of a file: its voxels' shape, type, grid and scaling, and its `fields` by name."""

    shape: tuple[int, int, int]
    dtype: np.dtype
    start: int
    slope: float
    inter: float
    fields: np.void

    @property
    def end(self) -> int:
        """The bytes of the whole file: in Python integers, since a hostile header overflows anything smaller."""
        return self.start + math.prod(self.shape) * self.dtype.itemsize


def parse(head: bytes) -> Header:
    """The header that the first bytes of a file hold. Raises ValueError with what is wrong with it."""
    length, order = _length(head)
    fields = np.frombuffer(head, KINDS[length].template_dtype.newbyteorder(order), count=1)[0]
    shape, dtype = _shape(fields), _dtype(fields, order)
    start = float(fields["vox_offset"])
    if not math.isfinite(start) or not start.is_integer() or start > length + EXTENSIONS:
        raise ValueError(f"its voxels would start at byte {start:g}; expected {length + 4} or a little more")
    if start < length + 4:  # the 4 bytes that say whether extensions follow
        raise ValueError(f"its voxels would start at byte {start:g}, within its header: no single-file NIfTI")
    if bytes(fields["magic"]) != MAGIC[length]:
        raise ValueError(f"its magic is {bytes(fields['magic'])!r}; expected {MAGIC[length]!r}: no single-file NIfTI")
    if length > min(KINDS) and tuple(fields["eol_check"]) != LINE_ENDS:
        raise ValueError("its line ends were changed, as when a file is sent as text; copy it again")
    return Header(shape, dtype, int(start), *_scaling(fields), fields)


def _length(head: bytes) -> tuple[int, Order]:
    """A header's length and byte order."""
    for order in ("<", ">"):
        length = int.from_bytes(head[:4], "little" if order == "<" else "big")
        if length in KINDS:
            if len(head) < length:
                raise ValueError(f"no NIfTI file: {len(head)} bytes are fewer than a header has")
            return length, order
    raise ValueError("no NIfTI file: it does not begin with the length of its header (348 or 540)")


def _shape(fields: np.void) -> tuple[int, int, int]:
    count, *sizes = (int(n) for n in fields["dim"])
    if not 1 <= count <= 7:
        raise ValueError(f"it claims {count} axes; expected one 3-D volume")
    sizes = sizes[:count]
    if count < 3 or min(sizes) < 1 or any(n > 1 for n in sizes[3:]):
        raise ValueError(f"its shape is {tuple(sizes)}; expected one 3-D volume")
    return sizes[0], sizes[1], sizes[2]


def _dtype(fields: np.void, order: Order) -> np.dtype:
    code, bits = int(fields["datatype"]), int(fields["bitpix"])
    if code not in data_type_codes.dtype:
        raise ValueError(f"its voxels are of type {code}, which NIfTI does not define")
    dtype: np.dtype = np.dtype(data_type_codes.dtype[code]).newbyteorder(order)  # pyright: ignore
    if dtype.kind not in "iuf":
        raise ValueError(f"its voxels are {dtype}; expected real numbers")
    if bits not in (0, 8 * dtype.itemsize):
        raise ValueError(f"its voxels are {dtype} and yet of {bits} bits: its header contradicts itself")
    return dtype


def _scaling(fields: np.void) -> tuple[float, float]:
    """Slope and intercept of stored numbers: a slope of 0 or NaN means neither."""
    slope, inter = float(fields["scl_slope"]), float(fields["scl_inter"])
    if slope == 0 or math.isnan(slope):
        return 1.0, 0.0
    if not math.isfinite(slope) or not math.isfinite(inter):
        raise ValueError(f"its voxels are to be scaled by {slope:g} and {inter:g}; expected finite numbers")
    return slope, inter
