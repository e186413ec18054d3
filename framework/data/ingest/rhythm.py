"""The simulated cohort `rhythm`, brought in like any other."""

from collections.abc import Iterator
from pathlib import Path

from framework.data.cohort.ledger import Ledger
from framework.data.cohort.schema import Subject
from framework.data.ingest.base import Ingested, Reader
from framework.data.simulate.rhythm import rhythm, rhythm_schema


class Rhythm(Reader):
    """`subjects` simulated people, 60 to 200 visits each; the same `seed` gives the same cohort."""

    IGNORED = ()

    def __init__(self, subjects: int, seed: int):
        self.subjects, self.seed = subjects, seed

    def files(self) -> dict[str, Path]:
        return {}

    def read(self) -> Ingested:
        ledger = Ledger()
        return Ingested(rhythm_schema(), self._subjects(ledger), ledger)

    def _subjects(self, ledger: Ledger) -> Iterator[Subject]:
        for subject in rhythm(self.subjects, self.seed):
            ledger.add(subject.id, "", "subject", "used")
            for visit in subject.visits:
                ledger.add(subject.id, visit.id, "visit", "used")
            yield subject
