"""NIfTI volumes, read with distrust: the whole stream is checked before a voxel is believed.

nibabel alone never reaches a gzip stream's checksum, so a flipped bit goes unseen, and it allocates whatever a
header claims. Here a file's length must be what its header says, exactly, and is known before memory is taken.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from framework.data.ingest.bounded import CHUNK, GZIP, UNPACKABLE, opened, packed
from framework.data.ingest.scans.header import LONGEST, Header, parse
from framework.data.ingest.scans.orientation import affine_of
from framework.data.ingest.scans.reading import Reading
from framework.errors import UserError
from framework.files import size_of


@dataclass(frozen=True)
class Volume:
    """A 3-D volume with the affine from voxel indices to mm in RAS, its scaling, and its file's SHA-256.

    `warning` says what was taken on trust.
    """

    voxels: Float[np.ndarray, "i j k"]
    affine: Float[np.ndarray, "4 4"]
    sha256: str
    scaling: tuple[float, float] = (1.0, 0.0)
    warning: str | None = None


def read_volume(path: Path, reading: Reading | None = None) -> Volume:
    """Read `.nii` or `.nii.gz`; raises UserError with what is wrong with the file."""
    reading = reading or Reading()
    zipped = path.name.lower().endswith(".gz")
    try:
        least, most = packed(path) if zipped else (size_of(path),) * 2
        with opened(path, zipped) as (stream, hashed):
            head = stream.read(LONGEST)
            if not zipped and head.startswith(GZIP):
                raise ValueError("it is packed by gzip, though its name does not end in .gz; rename it")
            header = parse(head)
            _holds(header, least, most, reading.voxels)
            affine, warning = affine_of(header, reading.orientation, reading.spatial_units)
            stream.read(max(header.start - len(head), 0))  # extensions
            voxels = _voxels(stream, head[header.start :], header, reading.nan)
            if stream.read(1):  # reading to the end is what checks the gzip checksum
                raise ValueError(_longer(header))
            sha256 = hashed.sha256()
    except MemoryError:
        raise UserError("there is not enough memory for it") from None
    except (*UNPACKABLE, ValueError) as error:
        raise UserError(getattr(error, "strerror", None) or str(error) or type(error).__name__) from None
    return Volume(voxels, affine, sha256, (header.slope, header.inter), warning)


def _holds(header: Header, least: int, most: int, voxels: int) -> None:
    """Raise ValueError where the file is of another length than its header says, or holds too many voxels."""
    claimed = header.shape[0] * header.shape[1] * header.shape[2]
    if claimed > voxels:
        raise ValueError(
            f"its header claims {header.shape} voxels, {claimed} in all; at most {voxels} are read "
            "(data.reader.scans.voxels)"
        )
    if most < header.end:
        raise ValueError(f"cut short: it can hold {most} bytes of the {header.end} its header claims")
    if least > header.end:
        raise ValueError(_longer(header))


def _longer(header: Header) -> str:
    return f"it holds more than the {header.end} bytes its header claims"


def _voxels(stream: io.BufferedIOBase, rest: bytes, header: Header, nan: float | None) -> Float[np.ndarray, "i j k"]:
    """The voxels, scaled, read part by part so that a short file takes no more memory than it has."""
    total, size = int(np.prod(header.shape)), header.dtype.itemsize
    voxels, done, broken = np.empty(total, np.float32), 0, 0
    while done < total:
        wanted = min(8 * CHUNK // size, total - done) * size
        part = rest[:wanted] + stream.read(wanted - len(rest[:wanted]))
        rest = rest[wanted:]
        if len(part) < wanted:
            held = header.start + done * size + len(part)
            raise ValueError(f"cut short: it holds {held} bytes of the {header.end} its header claims")
        stored = np.frombuffer(part, header.dtype)
        into = voxels[done : done + len(stored)]
        with np.errstate(over="ignore", invalid="ignore"):
            into[:] = stored if (header.slope, header.inter) == (1.0, 0.0) else stored * header.slope + header.inter
        if nan is not None:
            into[np.isnan(stored)] = nan
        broken += len(into) - int(np.count_nonzero(np.isfinite(into)))
        done += len(stored)
    if broken:
        raise ValueError(
            f"{broken} of its voxels are NaN or infinite; where NaN stands for outside, add data.reader.scans.nan=0"
        )
    return voxels.reshape(header.shape, order="F")
