"""Small scans with a known content, and a folder of them as a cohort: each visit a file."""

from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np

from framework.data.cohort.ledger import Entry, Ledger
from framework.data.cohort.store import Cohort
from framework.data.ingest.base import LEDGER, ingest
from framework.data.ingest.nifti import Nifti
from framework.data.ingest.table import Table

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
SIDE = 48
GRID = {"shape": [16, 16, 16], "spacing": [12.0, 12.0, 12.0]}  # 192 mm, as the scan
VOXEL = 12.0**3 / 1000  # mL


def ball(at: Sequence[float] = (0, 0, 0), shape: Sequence[int] = (SIDE,) * 3, radius: float = 40.0) -> np.ndarray:
    """A ball of 1000 in 0, its centre in mm from that of a volume with voxels of 4 mm: 268 mL."""
    away = [(np.arange(n) - (n - 1) / 2) * 4 - x for n, x in zip(shape, at, strict=True)]
    x, y, z = np.meshgrid(*away, indexing="ij")
    return np.where(x**2 + y**2 + z**2 <= radius**2, 1000, 0).astype(np.int16)


def save(
    file: Path,
    voxels: np.ndarray | None = None,
    sform: tuple[np.ndarray | None, int] = (AFFINE, 1),
    qform: tuple[np.ndarray | None, int] = (AFFINE, 1),
    units: str = "mm",
    **fields: object,
) -> Path:
    """A NIfTI file with these two forms; `fields` of its header are set last."""
    image = nibabel.Nifti1Image(ball() if voxels is None else voxels, AFFINE)
    image.set_sform(*sform)
    image.set_qform(*qform)
    image.header.set_xyzt_units(units)
    file.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, file)
    if fields:
        content = bytearray(file.read_bytes())
        header = nibabel.Nifti1Header(bytes(content[:348]), check=False)
        for name, value in fields.items():
            header[name] = value
        content[:348] = header.binaryblock
        file.write_bytes(content)
    return file


def reader(root: Path, files: Sequence[str], subject: str | None = "a", grid: dict | None = None, **changed) -> Nifti:
    """A reader of those files below `root`: all visits of one subject, or (None) of a subject each."""
    rows = [f"{subject or name.split('.')[0]},{n},{n},{name}" for n, name in enumerate(files, 1)]
    (root / "visits.csv").write_text("\n".join(["subject,visit,time,T1w", *rows]) + "\n")
    visits = Table(str(root / "visits.csv"), "subject", {"column": "time"}, "visit")
    return Nifti(str(root), visits, {"T1w": GRID | (grid or {})}, **changed)


def made(root: Path, files: Sequence[str], **changed) -> tuple[Cohort, list[Entry]]:
    """The cohort of those files and the ledger's entries of scans."""
    number = len(list(root.glob("cohort*")))
    cohort = ingest(reader(root, files, **changed), str(root / f"cohort{number}"))
    entries = Ledger.read(f"{cohort.path}/{LEDGER}").entries
    return cohort, [entry for entry in entries if entry.item not in ("subject", "visit")]


def millilitres(cohort: Cohort, subject: int = 0, visit: int = 0) -> float:
    """The volume of what is bright in a scan on the grid."""
    voxels = cohort.voxels("T1w", subject, visit)
    return float((voxels > 500).sum() * VOXEL)


def middle(cohort: Cohort, subject: int = 0, visit: int = 0) -> np.ndarray:
    """The centre of mass of a scan on the grid, in mm from the grid's centre."""
    voxels = cohort.voxels("T1w", subject, visit)[..., 0]
    steps = (np.indices(voxels.shape) - (np.array(voxels.shape) - 1).reshape(3, 1, 1, 1) / 2) * 12.0
    return (voxels * steps).sum((1, 2, 3)) / voxels.sum()
