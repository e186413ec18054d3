"""The reporting checklist: the items of the reporting guideline that a run can answer."""

from framework.report.methods import bibliography
from framework.report.methods.files import GUIDELINE, cited_entries
from framework.report.sections.base import Content, Page, Section
from framework.report.tripod import tripod_items


def render(page: Page) -> Content:
    """The items as a table, and the guideline's reference."""
    entries = cited_entries(page.methods)
    return {
        "answers": tripod_items.table(page.run, list(page.methods)),
        "guideline": bibliography.as_html(GUIDELINE, entries),
    }


SECTION = Section("tripod", "TRIPOD+AI", 100, render)
