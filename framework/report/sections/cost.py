"""Cost: time, work and memory of every model's training."""

from framework.report.exhibits import cost
from framework.report.sections.base import Content, Page, Section


def render(page: Page) -> Content:
    """Tables and the roofline."""
    costs = page.run.cost or {}
    return {
        "tables": cost.tables(costs),
        "roof": cost.roof(costs, page.pens),
        "uncounted": cost.uncounted(costs),
        "device": cost.device(costs) or page.run.manifest["device"]["kind"],
    }


SECTION = Section("cost", "Cost", 110, render, needs=("cost",))
