"""Leak certificate: the checks of a run, and which subjects each part of each model was fitted on."""

from collections.abc import Mapping

import pandas as pd

from framework.report.sections.base import Content, Page, Section
from framework.report.tables import Table, words


def render(page: Page) -> Content:
    """The checks as a table; the rest is read from the certificate."""
    assert page.run.certificate is not None  # the section needs it
    return {"checks": checks(page.run.certificate)}


def checks(certificate: Mapping) -> Table:
    """The checks of a certificate."""
    rows = [(one["name"], "yes" if one["holds"] else "no", one["found"]) for one in certificate["checks"]]
    head = ("Check", "Passed", "Finding")
    return Table(
        "certificate",
        "Checks of the certificate",
        head,
        [words(*row) for row in rows],
        pd.DataFrame(rows, columns=[name.lower() for name in head]),
        words=3,
    )


SECTION = Section("certificate", "Leak certificate", 80, render, needs=("certificate",))
