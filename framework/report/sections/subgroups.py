"""Subgroups: the headline metric by characteristics of subjects and by years ahead."""

from framework.report.exhibits import subgroup_tables
from framework.report.sections.base import Content, Page, Section


def render(page: Page) -> Content:
    """A table for each target."""
    return {"tables": subgroup_tables.tables(page.run.groups)}


SECTION = Section("subgroups", "Subgroups", 50, render, needs=("groups",))
