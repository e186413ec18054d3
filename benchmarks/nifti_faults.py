"""Every bit of a NIfTI header, flipped: what becomes of a scan whose header says something else.

A head in a 24³ volume is the follow-up of a subject whose other visits are whole. Each of the 2,816 bits of header and
extension flag is flipped in turn, and the file read as a reader reads it. It is refused, or warned of, or read; then
what networks would see on the grid is held against what they see of the whole file: the same (harmless), less than 1%
apart in the mean (slight), or more (silent). Anything but a UserError of one line is a traceback.
"""

import gzip
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import nibabel
import numpy as np

from framework.data.cohort.ledger import Ledger
from framework.data.cohort.schema import Scan
from framework.data.ingest.scans.regridding import Grid, ScanFiles
from framework.errors import UserError
from framework.image.normalise import normalise

SIDE, SPACING, HEADER = 24, 8.0, 352  # voxels, mm, bytes
SAME, SLIGHT = 1e-5, 0.01  # of the mean
OUTCOMES = ("refused", "warned", "harmless", "slight", "silent", "traceback")


@dataclass(frozen=True)
class Kind:
    """One way to write the same scan: the codes of sform and qform, obliqueness, a CT, packed."""

    sform: int = 1
    qform: int = 1
    oblique: bool = False
    ct: bool = False
    packed: bool = False
    grid: Mapping = field(default_factory=dict)

    def save(self, file: Path) -> None:
        """Write the scan."""
        affine = np.diag([SPACING] * 3 + [1.0])
        if self.oblique:
            cos, sin = np.cos(0.2), np.sin(0.2)
            affine = np.array([[cos, -sin, 0, 0], [sin, cos, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ affine
        image = nibabel.Nifti1Image(_head(self.ct), affine)
        image.set_sform(affine, self.sform)
        image.set_qform(affine, self.qform)
        image.header.set_xyzt_units("mm", "sec")
        content = bytearray(image.to_bytes())
        header = nibabel.Nifti1Header(bytes(content[:348]))
        header["scl_slope"] = 1
        content[:348] = header.binaryblock
        # without a time in it, so that the file is the same whenever it is written
        file.write_bytes(gzip.compress(bytes(content), mtime=0) if self.packed else bytes(content))


KINDS = {
    "sform and qform": Kind(),
    "sform and qform, oblique": Kind(oblique=True),
    "sform alone": Kind(qform=0),
    "qform alone": Kind(sform=0),
    "computed tomography": Kind(ct=True, grid={"units": "HU"}),
    "packed": Kind(packed=True),
}


def _head(ct: bool) -> np.ndarray:
    """A head that is alike in no two directions, in air."""
    x, y, z = (np.indices((SIDE,) * 3) - (SIDE - 1) / 2) * SPACING
    head = (x / 60) ** 2 + (y / 75) ** 2 + (z / 70) ** 2 < 1
    inner = ((x - 15) / 12) ** 2 + ((y + 20) / 25) ** 2 + ((z - 10) / 15) ** 2 < 1
    mr = head * (800 + x + 2 * y - 1.5 * z) - inner * 500
    return np.where(head, np.where(inner, 5, 40 + x / 10), -1000).astype(np.int16) if ct else mr.astype(np.int16)


def flips(kind: Kind, folder: Path, every: int = 1) -> Iterator[tuple[str, str]]:
    """Of every n-th bit the field that it lies in, and what became of the scan."""
    whole, broken = folder / "whole.nii", folder / "broken.nii"
    if kind.packed:
        whole, broken = folder / "whole.nii.gz", folder / "broken.nii.gz"
    kind.save(whole)
    grid = Grid((16, 16, 16), (12.0, 12.0, 12.0), **kind.grid)
    right, content = Trial(folder, grid, ()), whole.read_bytes()
    expected = right.seen_by_networks(whole)
    siblings = tuple(right.files.seen)
    for bit in range(0, 8 * (len(content) if kind.packed else HEADER), every):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        broken.write_bytes(changed)
        yield "packed" if kind.packed else field_of(bit // 8), outcome(Trial(folder, grid, siblings), broken, expected)


def outcome(trial: "Trial", file: Path, expected: np.ndarray) -> str:
    """What becomes of one file."""
    try:
        found = trial.seen_by_networks(file)
    except UserError as error:
        return "refused" if "\n" not in str(error) else "traceback"
    except Exception:  # whatever it is, a user would meet it
        return "traceback"
    apart = float(np.abs(found - expected).mean() / np.abs(expected).mean())
    if trial.files.ledger.warnings:
        return "warned"
    return "harmless" if apart <= SAME else "slight" if apart <= SLIGHT else "silent"


class Trial:
    """One scan read as the last of a subject's."""

    def __init__(self, folder: Path, grid: Grid, siblings: tuple):
        self.grid, self.files = grid, ScanFiles(folder, "stop", {"T1w": grid}, Ledger(), seen=list(siblings))

    def seen_by_networks(self, file: Path) -> np.ndarray:
        """The scan on its grid, its background at 0, on a scale of its own where its units are arbitrary."""
        scan = self.files.read(file, "T1w", "a", file.name)
        assert isinstance(scan, Scan)
        list(self.files.compared(iter(())))
        about = self.grid.modality("T1w")
        voxels = scan.voxels - np.float32(about.background)
        return normalise(voxels) if about.units == "arbitrary" else voxels


def field_of(byte: int) -> str:
    """The header field that a byte lies in."""
    fields = nibabel.Nifti1Header.template_dtype.fields or {}
    for name, (kind, start, *_) in fields.items():
        if start <= byte < start + kind.itemsize:
            return str(name)
    return "extension"


def measure(folder: Path, every: int = 1) -> dict[str, dict]:
    """Of every kind how many flips had which outcome, and in which fields the silent ones lie."""
    cases = {}
    for name, kind in KINDS.items():
        found = list(flips(kind, folder, every))
        counts = Counter(outcome for _, outcome in found)
        case = {"bits": len(found)} | {outcome: counts[outcome] for outcome in OUTCOMES}
        for outcome_ in ("silent", "slight"):
            fields = Counter(name for name, one in found if one == outcome_)
            case[f"{outcome_}_by_field"] = dict(fields.most_common())
        cases[f"nifti, {name}"] = case
    return cases
