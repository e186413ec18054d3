"""The simulated cohort's way in: what it misses is in the ledger."""

from framework.data.cohort.ledger import Entry, Ledger
from framework.data.cohort.schema import Subject, Visit
from framework.data.ingest.atrophy import account
from framework.data.simulate.cohort import Missed, Simulated


def test_what_was_planned_is_accounted_for():
    visits = (Visit("m00", 0.0, {}), Visit("m12", 1.0, {}))
    missed = (Missed("m06", "visit", "missed"), Missed("m12", "t1", "not done"))
    ledger = Ledger()
    account(Simulated(Subject("sim0", visits), missed), ledger)
    account(Simulated(Subject("sim1", ()), (Missed("m00", "visit", "left the study"),)), ledger)
    assert ledger.entries == [
        Entry("sim0", "", "subject", "used"),
        Entry("sim0", "m00", "visit", "used"),
        Entry("sim0", "m12", "visit", "used"),
        Entry("sim0", "m06", "visit", "excluded", "missed"),
        Entry("sim0", "m12", "t1", "missing", "not done"),
        Entry("sim1", "", "subject", "excluded", "missed every visit"),
        Entry("sim1", "m00", "visit", "excluded", "left the study"),
    ]
    ledger.check({"sim0": ["m00", "m12"]})
