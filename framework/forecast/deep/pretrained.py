"""Encoders that a finished run of experiments.pretrain left behind, and whom they have seen."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import PyTree

from framework.data.cohort.store import Cohort
from framework.data.splits.split import Split
from framework.digests import check
from framework.errors import UserError
from framework.nn.encoders.base import Encoder
from framework.nn.model import encoders
from framework.train.array_io import load_arrays, save_arrays
from framework.types import Layout

SEEN = "seen.json"  # subject -> digests of its scans, of everybody who trained or decided when to stop


@dataclass(frozen=True)
class Pretrained:
    """Encoder weights by modality, under `path`; `grids` are those they were trained on."""

    path: Path
    grids: Mapping[str, tuple[int, ...]]
    seen: Mapping[str, Sequence[str]]

    @staticmethod
    def read(run: str) -> "Pretrained":
        """Raises UserError where there is no finished run, or its files are not what it wrote."""
        path = Path(run)
        file = path / "manifest.json"
        if not file.exists() or not (path / SEEN).exists():
            raise UserError(
                f"model.pretrained={run} is no finished run of experiments.pretrain; name the folder that it printed"
            )
        check(path, "manifest.json", SEEN, "encoders")
        content = json.loads(file.read_text())
        grids = {name: tuple(facts["grid"]) for name, facts in content["encoders"].items()}
        return Pretrained(path, grids, json.loads((path / SEEN).read_text()))

    def keep_from(self, cohort: Cohort, splits: Sequence[Split]) -> None:
        """Raise UserError where an encoder has seen a subject that is to be tested, by its id or by its scans."""
        rows = np.flatnonzero(np.any([split.test for split in splits], axis=0))
        scans = {digest for digests in self.seen.values() for digest in digests}
        known = [
            cohort.subjects[row]
            for row in rows
            if cohort.subjects[row] in self.seen or scans & set(digests(cohort, int(row)))
        ]
        if known:
            raise UserError(
                f"model.pretrained={self.path} was trained on {len(known)} of {len(rows)} subjects that are tested "
                f"here (such as {known[0]!r}); pretrain with this run's split settings and the one fold that it tests"
            )

    def encoders(self, encoder: Any, layout: Layout) -> dict[str, Encoder]:
        """An encoder for each modality, made by `encoder`, that knows what was learnt."""
        made = encoders(encoder, layout, nnx.Rngs(0))
        for name, grid in zip(layout.modalities, layout.grids, strict=True):
            nnx.update(made[name], self.weights(name, grid, nnx.state(made[name])))
        return made

    def weights(self, name: str, grid: tuple[int, ...], like: PyTree) -> PyTree:
        """One modality's encoder, in the shape of `like`."""
        if name not in self.grids:
            raise UserError(
                f"model.pretrained={self.path} has no {name} encoder, only {list(self.grids)}; pretrain with {name}, "
                f"or hide it: data.hidden=[{name}]"
            )
        try:
            return load_arrays(self.path / "encoders" / name, like)
        except UserError as error:
            raise UserError(
                f"the {name} encoder of {self.path} does not fit (trained on the grid {self.grids[name]}, here "
                f"{tuple(grid)}); take the model/encoder and the grid that its config.yaml tells ({error})"
            ) from error


def save_weights(run: Path, name: str, weights: PyTree) -> None:
    """Keep one modality's encoder with a run."""
    save_arrays(run / "encoders" / name, weights)


def digests(cohort: Cohort, row: int) -> list[str]:
    """The digests of all scans of a subject."""
    return [scan["voxels"] for visit in cohort.manifest["subjects"][row]["visits"] for scan in visit["scans"].values()]
