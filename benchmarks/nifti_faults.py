"""Faults of NIfTI headers: every bit flipped in turn.

A head in a 24³ volume is the follow-up of a subject whose other visits are intact. Each of the 2,816 bits of header and
extension flag is flipped in turn, and the file is read by the reader. It is refused, or read with a warning, or read;
then the network's input on the grid is compared with that of the intact file: equal (harmless), less than 1% apart on
average (slight), or more (silent). Any error but a UserError of one line is a traceback.
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
    """One way to write the same scan: codes of sform and qform, obliqueness, CT, compression."""

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
        # without a time stamp, so that the file is reproducible
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
    """Simulate a head without symmetry, in air."""
    x, y, z = (np.indices((SIDE,) * 3) - (SIDE - 1) / 2) * SPACING
    head = (x / 60) ** 2 + (y / 75) ** 2 + (z / 70) ** 2 < 1
    inner = ((x - 15) / 12) ** 2 + ((y + 20) / 25) ** 2 + ((z - 10) / 15) ** 2 < 1
    mr = head * (800 + x + 2 * y - 1.5 * z) - inner * 500
    return np.where(head, np.where(inner, 5, 40 + x / 10), -1000).astype(np.int16) if ct else mr.astype(np.int16)


def flips(kind: Kind, folder: Path, every: int = 1) -> Iterator[tuple[str, str]]:
    """Yield, for every n-th bit, its header field and the outcome."""
    whole, broken = folder / "whole.nii", folder / "broken.nii"
    if kind.packed:
        whole, broken = folder / "whole.nii.gz", folder / "broken.nii.gz"
    kind.save(whole)
    grid = Grid((16, 16, 16), (12.0, 12.0, 12.0), **kind.grid)
    intact, content = Trial(folder, grid, ()), whole.read_bytes()
    expected = intact.network_input(whole)
    siblings = tuple(intact.files.seen)
    for bit in range(0, 8 * (len(content) if kind.packed else HEADER), every):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        broken.write_bytes(changed)
        yield "packed" if kind.packed else field_of(bit // 8), outcome(Trial(folder, grid, siblings), broken, expected)


def outcome(trial: "Trial", file: Path, expected: np.ndarray) -> str:
    """Read one file; return the outcome."""
    try:
        found = trial.network_input(file)
    except UserError as error:
        return "refused" if "\n" not in str(error) else "traceback"
    except Exception:  # a user would see it as a traceback
        return "traceback"
    apart = float(np.abs(found - expected).mean() / np.abs(expected).mean())
    if trial.files.ledger.warnings:
        return "warned"
    return "harmless" if apart <= SAME else "slight" if apart <= SLIGHT else "silent"


class Trial:
    """The reading of one scan as a subject's last."""

    def __init__(self, folder: Path, grid: Grid, siblings: tuple):
        self.grid, self.files = grid, ScanFiles(folder, "stop", {"T1w": grid}, Ledger(), seen=list(siblings))

    def network_input(self, file: Path) -> np.ndarray:
        """Return the scan on its grid with background 0, normalised where its units are arbitrary."""
        scan = self.files.read(file, "T1w", "a", file.name)
        assert isinstance(scan, Scan)
        list(self.files.compared(iter(())))
        modality = self.grid.modality("T1w")
        voxels = scan.voxels - np.float32(modality.background)
        return normalise(voxels) if modality.units == "arbitrary" else voxels


def field_of(byte: int) -> str:
    """Return the header field of a byte."""
    fields = nibabel.Nifti1Header.template_dtype.fields or {}
    for name, (kind, start, *_) in fields.items():
        if start <= byte < start + kind.itemsize:
            return str(name)
    return "extension"


def measure(folder: Path, every: int = 1) -> dict[str, dict]:
    """Count outcomes by kind of file, and the fields of silent and slight faults."""
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
