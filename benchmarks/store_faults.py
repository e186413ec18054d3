"""Faults in a cohort on disk, which is then read in every way: tables, dataset, each scan, ledger, source stamps."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import damage
from framework.data.cohort.ledger import Ledger
from framework.data.cohort.schema import Modality, Scan, Schema, Subject, Variable, Visit
from framework.data.cohort.store import open_cohort
from framework.data.ingest.base import Ingested, Reader, ingest, ledger_of
from framework.data.ingest.identity import require_same

COUNT = 600  # faults of each of the two stores
SCHEMA = Schema(
    (Variable("score", units="points"), Variable("stage", levels=("low", "high"))),
    (Variable("sex", levels=("F", "M")),),
    (Modality("T1w", (4, 5, 6), (1.0, 1.0, 1.0)), Modality("CT", (3, 3, 3), (2.0, 2.0, 2.0))),
)


class RandomSubjects(Reader):
    """Random subjects whose ids begin with a word; `subjects_per_shard` of them share a shard."""

    IGNORED = ("path", "subjects_per_shard")

    def __init__(self, path: str, word: str, count: int, subjects_per_shard: int = 1):
        self.path, self.word, self.count, self.subjects_per_shard = Path(path), word, count, subjects_per_shard

    def files(self) -> Mapping[str, Path]:
        return {"seeds": self.path}

    def read(self) -> Ingested:
        ledger = Ledger()
        subjects = (self._subject(i, ledger) for i in range(self.count))
        return Ingested(SCHEMA, subjects, ledger, subjects_per_shard=self.subjects_per_shard)

    def _subject(self, number: int, ledger: Ledger) -> Subject:
        rng, name = np.random.default_rng([number, len(self.word)]), f"{self.word}{number}"
        ledger.add(name, "", "subject", "used")
        visits = []
        for j in range(2 + number % 3):
            ledger.add(name, f"v{j}", "visit", "used")
            scans = {"T1w": Scan(rng.normal(size=(4, 5, 6, 1)).astype(np.float32))} if j != 1 else {}
            scans |= {"CT": Scan(rng.normal(size=(3, 3, 3, 1)).astype(np.float32))} if j == 0 else {}
            values = {"score": float(rng.normal(25, 3)), "stage": ("low", "high")[int(rng.integers(2))]}
            visits.append(Visit(f"v{j}", 0.7 * j, values, scans))
        ledger.add(name, "v1", "T1w", "missing", "no such file")
        return Subject(name, tuple(visits), {"sex": "M"})


def stamped_reader(folder: Path, word: str = "p", subjects_per_shard: int = 1) -> RandomSubjects:
    """Return a reader whose source file is large enough to be identified by its stamp."""
    file = folder / f"{word}.bin"
    if not file.exists():
        file.write_bytes(word.encode() * 2**20)
    return RandomSubjects(str(file), word, 5, subjects_per_shard)


def read(store: Path, file: str, number: int, source: RandomSubjects) -> tuple[str, object]:
    """Read everything in a cohort."""
    cohort = open_cohort(str(store))
    require_same(cohort, source.settings, source.files())
    names = [modality.name for modality in cohort.schema.modalities]
    places = [(name, int(i), int(j)) for name in names for i, j in np.argwhere(cohort.present[name])]
    scans = [cohort.voxels(*place) for place in places]
    dataset = {str(name): array.values for name, array in cohort.dataset.variables.items()}
    tables = [cohort.times, cohort.values, cohort.observed, cohort.static, cohort.static_observed]
    metadata = [
        cohort.fingerprint,
        cohort.subjects,
        cohort.visits,
        cohort.schema.to_json(),
        cohort.manifest["provenance"],
    ]
    return "read", [*tables, *scans, dataset, *metadata, [str(entry) for entry in ledger_of(str(store)).entries]]


def measure(folder: Path, count: int = COUNT) -> dict[str, dict]:
    """Measure an appended cohort with one subject per shard, and one with three subjects per shard."""
    found = {}
    for name, subjects_per_shard in (("store, appended", 1), ("store, three subjects a shard", 3)):
        whole, source = (
            folder / f"whole-{subjects_per_shard}" / "c",
            stamped_reader(folder, subjects_per_shard=subjects_per_shard),
        )
        if not whole.exists():
            ingest(source, str(whole))
            if subjects_per_shard == 1:
                ingest(stamped_reader(folder, "more"), str(whole), if_exists="append")
        use = partial(read, source=source)
        found[name] = damage.trials(whole, count, use, folder / f"faults-{subjects_per_shard}", pick, store=True)
    return found


def pick(files: Sequence[Path], rng: np.random.Generator) -> Path:
    """Draw the manifest, ledger or stamps with probability 1/3, else a file of the arrays."""
    beside = [file for file in files if "series.zarr" not in file.parts]
    arrays = [file for file in files if "series.zarr" in file.parts]
    chosen = beside if rng.random() < 1 / 3 else arrays
    return chosen[rng.integers(len(chosen))]
