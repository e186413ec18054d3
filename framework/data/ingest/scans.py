"""Scan files brought to their modality's common grid, one at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from framework.data.ingest.series import Absent
from framework.data.ingest.spec import build, known
from framework.data.schema import Modality, Scan, Source
from framework.errors import UserError


@dataclass(frozen=True)
class Grid:
    """A modality's common grid: `shape` in voxels, `spacing` in mm along right, anterior, superior."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]

    def __post_init__(self):
        if min(self.shape) < 1 or min(self.spacing) <= 0:
            raise UserError(f"grid of shape {list(self.shape)} and spacing {list(self.spacing)}; expected both above 0")


def grids(node: Mapping) -> dict[str, Modality]:
    """The modalities of a YAML mapping from name to `Grid`."""
    if not isinstance(node, Mapping) or not node:
        raise UserError(
            f"modalities is {node!r}; expected a mapping such as {{T1w: {{shape: [32, 32, 32], spacing: [6, 6, 6]}}}}"
        )
    each = {str(name): build(Grid, grid, f"modalities.{name}") for name, grid in node.items()}
    return {name: Modality(name, grid.shape, grid.spacing) for name, grid in each.items()}


@dataclass(frozen=True)
class ScanFiles:
    """Reads files below `root`; an unreadable one stops the ingest, or with on_error "exclude" goes to the ledger."""

    root: Path
    on_error: str

    def __post_init__(self):
        known(self.on_error, ["stop", "exclude"], "on_error")

    def read(self, file: Path, modality: Modality, subject: str, visit: str) -> Scan | Absent:
        # jax is loaded for scans alone: a table needs none of it
        from framework.data.ingest.volume import read_volume
        from framework.image.resample import to_grid

        name = file.relative_to(self.root).as_posix() if file.is_relative_to(self.root) else str(file)
        try:
            volume = read_volume(file)
        except UserError as error:
            if self.on_error == "exclude":
                return Absent("excluded", f"{name}: {error}")
            raise UserError(
                f"subject {subject!r}, visit {visit!r}, {modality.name}: cannot read {name}: {error}; "
                "replace the file, or add data.reader.on_error=exclude to leave it out"
            ) from None
        voxels = to_grid(volume.voxels, volume.affine, modality.shape, modality.spacing)
        return Scan(voxels[..., None], Source(name, volume.sha256))
