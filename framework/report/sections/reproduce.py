"""Reproduce: the command, code, versions and configuration of the run."""

from framework.report.sections.base import Content, Page, Section


def render(page: Page) -> Content:
    """Nothing beyond the manifest and the configuration, which every template can read."""
    return {}


SECTION = Section("reproduce", "Reproduce", 120, render)
