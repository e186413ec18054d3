"""Data: the cohort, its participants, and the ledger of what was used, missing or excluded."""

import pandas as pd

from framework.report.exhibits import participants
from framework.report.sections.base import Content, Page, Section
from framework.report.tables import Cell, Table

LONGEST = 1000  # lines of the ledger that the page holds; all of them are in ledger.csv


def render(page: Page) -> Content:
    """The participants' characteristics and the ledger, where the run has them."""
    run = page.run
    return {
        "participants": participants.table(run.participants) if run.participants else None,
        "ledger": None if run.ledger is None else _ledger(run.ledger),
    }


def _ledger(ledger: pd.DataFrame) -> Content:
    counts = ledger.value_counts(["item", "status"], sort=False).unstack(fill_value=0)
    statuses = [status for status in ("used", "missing", "excluded") if status in counts]
    # subjects and visits first, then what was missing or excluded at them
    items = sorted(counts.index, key=lambda item: (item not in ("subject", "visit"), item))
    unused = ledger.loc[ledger["status"] != "used"]
    rows = [[Cell(item), *(Cell(str(counts.loc[item, status] or "")) for status in statuses)] for item in items]
    data = counts.loc[items, statuses].reset_index()
    return {
        "counts": Table("ledger", "Counts of the ledger", ("Item", *statuses), rows, data),
        "unused": unused.head(LONGEST).to_dict("records"),
        "total": len(unused),
    }


SECTION = Section("data", "Data", 70, render)
