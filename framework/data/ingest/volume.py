"""NIfTI volumes, read with distrust: the whole stream is checked before a voxel is believed.

nibabel alone never reaches a gzip stream's checksum, so a flipped bit goes unseen, and it allocates whatever a
header claims.
"""

import gzip
import hashlib
import io
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from jaxtyping import Float
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from framework.errors import UserError

MAX_BYTES = 2**32  # an uncompressed 1024³ volume of 4 bytes a voxel
SLACK = 2**20  # what may follow the voxels
MM = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}


@dataclass(frozen=True)
class Volume:
    """A 3-D volume with the affine from voxel indices to mm in RAS, and its file's SHA-256."""

    voxels: Float[np.ndarray, "i j k"]
    affine: Float[np.ndarray, "4 4"]
    sha256: str


def read_volume(path: Path) -> Volume:
    """Read `.nii` or `.nii.gz`; raises UserError with what is wrong with the file."""
    try:
        content = path.read_bytes()
        data, kind = _checked(content, path.name.endswith(".gz"))
        image = kind.from_bytes(data)
        affine = _affine(image)
        voxels = np.asarray(image.dataobj, dtype=np.float32)
    except (OSError, EOFError, zlib.error, ImageFileError, HeaderDataError, ValueError) as error:
        raise UserError(getattr(error, "strerror", None) or str(error) or type(error).__name__) from None
    voxels = voxels.reshape(voxels.shape[:3])
    broken = int(np.count_nonzero(~np.isfinite(voxels)))
    if broken:
        raise UserError(f"{broken} of its voxels are NaN or infinite")
    return Volume(voxels, affine, hashlib.sha256(content).hexdigest())


def _checked(content: bytes, zipped: bool) -> tuple[bytes, type[nibabel.Nifti1Image]]:
    """The decompressed file, once its size is what its header says, and the kind of image it is."""
    stream = gzip.GzipFile(fileobj=io.BytesIO(content)) if zipped else io.BytesIO(content)
    head = stream.read(540)
    kind = nibabel.Nifti2Image if head[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else nibabel.Nifti1Image
    length = kind.header_class.template_dtype.itemsize
    if len(head) < length:
        raise ValueError(f"no NIfTI file: {len(head)} bytes are fewer than a header has")
    header = kind.header_class(head[:length])
    shape = header.get_data_shape()
    if len(shape) < 3 or min(shape) < 1 or any(n > 1 for n in shape[3:]):
        raise ValueError(f"its shape is {tuple(map(int, shape))}; expected one 3-D volume")
    if header.get_data_dtype().kind not in "iuf":
        raise ValueError(f"its voxels are {header.get_data_dtype()}; expected real numbers")
    start = int(header.get_data_offset())
    if start < length + 4:  # the 4 bytes that say whether extensions follow
        raise ValueError(f"its voxels would start at byte {start}, within its header: no single-file NIfTI")
    # in Python integers: a hostile header overflows anything smaller
    claimed = start + int(np.prod([int(n) for n in shape], dtype=object)) * header.get_data_dtype().itemsize
    if claimed > MAX_BYTES:
        raise ValueError(
            f"its header claims {tuple(map(int, shape))} voxels, {claimed} bytes; at most {MAX_BYTES} are read"
        )
    # reading to the end is what checks the gzip checksum
    data = head + stream.read(claimed + SLACK - len(head))
    if len(data) < claimed:
        raise ValueError(f"cut short: it holds {len(data)} bytes of the {claimed} its header claims")
    if stream.read(1):
        raise ValueError(f"it holds more than the {claimed} bytes its header claims")
    return data, kind


def _affine(image: nibabel.Nifti1Image) -> Float[np.ndarray, "4 4"]:
    header = image.header
    if header["sform_code"] == 0 and header["qform_code"] == 0:
        raise ValueError("neither sform nor qform says how it is oriented")
    affine = np.array(image.affine, dtype=np.float64)
    affine[:3] *= MM[str(header.get_xyzt_units()[0])]
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.all(np.isfinite(affine)) or lengths.min() <= 0 or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        raise ValueError("its affine is degenerate: voxel axes of no length, not finite, or in one plane")
    return affine
