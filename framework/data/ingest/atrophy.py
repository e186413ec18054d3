"""The simulated cohort `atrophy`, brought in like any other, its missed visits in the ledger."""

from collections.abc import Iterator
from pathlib import Path

from framework.data.cohort.ledger import Ledger
from framework.data.cohort.schema import Subject
from framework.data.ingest.base import Ingested, Reader
from framework.data.simulate.cohort import Simulated, atrophy, atrophy_schema


class Atrophy(Reader):
    """`subjects` simulated people, scans of `voxels`³; the same `seed` gives the same cohort."""

    IGNORED = ()

    def __init__(self, subjects: int, seed: int, voxels: int = 32):
        self.subjects, self.seed, self.voxels = subjects, seed, voxels

    def files(self) -> dict[str, Path]:
        return {}

    def read(self) -> Ingested:
        ledger = Ledger()
        return Ingested(atrophy_schema(self.voxels), self._subjects(ledger), ledger)

    def _subjects(self, ledger: Ledger) -> Iterator[Subject]:
        for simulated in atrophy(self.subjects, self.seed, self.voxels):
            account(simulated, ledger)
            if simulated.subject.visits:
                yield simulated.subject


def account(simulated: Simulated, ledger: Ledger) -> None:
    """Enter a simulated subject, its visits, and what was planned but missed."""
    subject = simulated.subject
    if subject.visits:
        ledger.add(subject.id, "", "subject", "used")
    else:
        ledger.add(subject.id, "", "subject", "excluded", "missed every visit")
    for visit in subject.visits:
        ledger.add(subject.id, visit.id, "visit", "used")
    for missed in simulated.missed:
        status = "excluded" if missed.what == "visit" else "missing"
        ledger.add(subject.id, missed.visit, missed.what, status, missed.reason)
