"""Scan files brought to their modality's common grid, one at a time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from framework.data.cohort.ledger import Ledger
from framework.data.cohort.schema import Modality, Scan, Source, Subject
from framework.data.ingest.scans.reading import Reading
from framework.data.ingest.scans.siblings import CENTRE, Seen, compare
from framework.data.ingest.tables.visit_table import Absent
from framework.data.ingest.validate import build, known
from framework.errors import UserError

AIR = -1000.0  # HU
DEPTH = 2 / 3  # of the grid's height: how far down from the top a head is looked at for its centre
CUT = 20.0  # mm of what is bright that may lie above the grid


@dataclass(frozen=True)
class Grid:
    """A modality's common grid: `shape` in voxels, `spacing` in mm along right, anterior, superior.

    `units` are those of the intensities (HU for CT; "arbitrary" ones are brought to a scale of each scan's own) and
    `background` the value outside the patient: 0, or -1000 in HU. Scans that cover less than `cover` of a side of the
    grid are warned of; those that cover less than half of that, or are longer than `extent` mm, are no scans of this
    kind. `centre` is field_of_view or foreground.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    units: str = "arbitrary"
    background: float | None = None
    cover: float = 0.5
    extent: float = 600.0
    centre: str = "field_of_view"

    def __post_init__(self):
        if min(self.shape) < 1 or min(self.spacing) <= 0:
            raise UserError(f"grid of shape {list(self.shape)} and spacing {list(self.spacing)}; expected both above 0")
        if not 0 <= self.cover <= 1 or not self.extent > 0:
            raise UserError(f"grid with cover {self.cover} and extent {self.extent}; expected 0 to 1, and above 0")
        if self.background is not None and not np.isfinite(self.background):
            raise UserError(f"grid with background {self.background}; expected a finite number in {self.units}")
        known(self.centre, ["field_of_view", "foreground"], "grid: centre")

    def modality(self, name: str) -> Modality:
        """The modality of scans on this grid, as a cohort declares it."""
        background = (AIR if self.units == "HU" else 0.0) if self.background is None else self.background
        return Modality(name, self.shape, self.spacing, units=self.units, background=background)


def grids(node: Mapping) -> dict[str, Grid]:
    """The grids of a YAML mapping from modality to `Grid`."""
    if not isinstance(node, Mapping) or not node:
        raise UserError(
            f"modalities is {node!r}; expected a mapping such as {{T1w: {{shape: [32, 32, 32], spacing: [6, 6, 6]}}}}"
        )
    return {str(name): build(Grid, grid, f"modalities.{name}") for name, grid in node.items()}


@dataclass(frozen=True)
class ScanFiles:
    """Reads files below `root` as `reading` says; an unreadable or implausible one stops the ingest, or with on_error
    "exclude" goes to the ledger. What is only doubtful is warned of.
    """

    root: Path
    on_error: str
    grids: Mapping[str, Grid]
    ledger: Ledger
    reading: Reading = field(default_factory=Reading)
    seen: list[Seen] = field(default_factory=list)
    doubts: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)  # by modality, the first file excluded and why

    def __post_init__(self):
        known(self.on_error, ["stop", "exclude"], "on_error")

    def read(self, file: Path, name: str, subject: str, visit: str) -> Scan | Absent:
        """The scan of modality `name` in a file, on its grid."""
        shown = file.relative_to(self.root).as_posix() if file.is_relative_to(self.root) else str(file)
        try:
            return self._read(file, shown, name, subject, visit)
        except UserError as error:
            if self.on_error == "exclude":
                self.excluded.setdefault(name, f"{shown}: {error}")
                return Absent("excluded", f"{shown}: {error}")
            raise UserError(
                f"subject {subject!r}, visit {visit!r}, {name}: cannot read {shown}: {error}; "
                "replace the file, or add data.reader.on_error=exclude to leave it out"
            ) from None

    def compared(self, subjects: Iterator[Subject]) -> Iterator[Subject]:
        """The subjects as they are, and then warnings of scans that do not go with each other.

        Raises UserError where every scan of a modality was excluded.
        """
        yield from subjects
        used = {one.modality for one in self.seen}
        for name, reason in self.excluded.items():
            if name not in used:
                raise UserError(
                    f"no scan of {name} can be used, so nothing is written; the first: {reason}; replace the files, or "
                    f"leave the modality out: ~data.reader.modalities.{name}"
                )
        for found in compare(self.seen):
            self._doubt(found.kind, found.subject, found.visit, found.modality, found.reason)
        for (_, name), lines in self.doubts.items():
            more = f" ({len(lines) - 1} more scans of {name}: see the ledger)" if len(lines) > 1 else ""
            self.ledger.warn(lines[0] + more)

    def _doubt(self, kind: str, subject: str, visit: str, name: str, reason: str) -> None:
        """Enter a scan that is used and yet doubtful; of each kind and modality the first is said aloud."""
        self.ledger.add(subject, visit, name, "used", reason)
        line = f"subject {subject!r}, visit {visit!r}, {name}: {reason}"
        self.doubts.setdefault((kind, name), []).append(line)

    def _read(self, file: Path, shown: str, name: str, subject: str, visit: str) -> Scan:
        from framework.data.ingest.scans.volume import read_volume
        from framework.data.ingest.scans.volume_checks import check_background, check_extent, range_of
        from framework.image.foreground import foreground

        grid, modality = self.grids[name], self.grids[name].modality(name)
        volume = read_volume(file, self.reading)
        partial = check_extent(volume, modality, grid.cover, grid.extent)
        found = range_of(volume.voxels)
        check_background(found, modality)
        from framework.image.resample import to_grid  # and jax, for scans alone that can be used

        voxels, axes = volume.voxels, volume.affine[:3, :3]
        if modality.background:
            voxels -= np.float32(modality.background)
        if modality.units == "HU":
            np.maximum(voxels, 0, out=voxels)  # what scanners fill in beyond their field of view is air
        height = grid.shape[2] * grid.spacing[2]
        bright = foreground(voxels, axes, DEPTH * height)
        offset = bright.centre if grid.centre == "foreground" else np.zeros(3)
        middle = (np.array(voxels.shape) - 1) / 2 + np.linalg.solve(axes, offset)
        made = to_grid(voxels, volume.affine, grid.shape, grid.spacing, middle) + np.float32(modality.background)
        if volume.warning:
            self._doubt("template", subject, visit, name, volume.warning)
        if partial:
            self._doubt("partial", subject, visit, name, partial)
        above = bright.top - offset[2] - height / 2
        if above > CUT:
            reason = f"{above:.0f} mm of what is bright lie above the grid and are cut off; {CENTRE}"
            self._doubt("cut", subject, visit, name, reason)
        at, low, high = bright.centre - offset, found.low, found.high
        arbitrary = modality.units == "arbitrary"
        self.seen.append(Seen(subject, visit, name, at, low, high, volume.scaling, arbitrary))
        return Scan(made[..., None], Source(shown, volume.sha256))
