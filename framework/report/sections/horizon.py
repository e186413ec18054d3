"""Error by horizon: how the error grows with the years ahead."""

from framework.report.exhibits import horizon, survival
from framework.report.sections.base import Content, Page, Section
from framework.types import Event


def render(page: Page) -> Content:
    """A panel and a table for each target."""
    panels, tables, events = [], [], False
    for name, one in page.named_targets():
        of_event = isinstance(one.target, Event)
        errors = (survival if of_event else horizon).horizons(one, page.run.resampling)
        panels.append(horizon.by_horizon(one, errors, page.pens, name))
        tables.append(horizon.table(one, errors))
        events |= of_event
    return {"panels": panels, "tables": tables, "events": events}


SECTION = Section("horizon", "Error by horizon", 40, render)
