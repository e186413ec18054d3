"""Learning curves: losses of every member while it was trained."""

from framework.report.exhibits.learning import curves
from framework.report.sections.base import Content, Page, Section


def render(page: Page) -> Content | None:
    """A panel for each model that was trained in steps; None where no model was."""
    assert page.run.learning is not None  # the section needs it
    panels = curves(page.run.learning, page.pens)
    return {"panels": panels} if panels else None


SECTION = Section("learning", "Learning curves", 60, render, needs=("learning",))
