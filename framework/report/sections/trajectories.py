"""Trajectories: forecasts of some subjects beside their observed outcomes, and of any subject on request."""

from typing import assert_never

from markupsafe import Markup

from framework.evaluate.outcomes import Outcomes
from framework.report.exhibits import explorer, survival
from framework.report.exhibits.trajectories import trajectories
from framework.report.sections.base import Content, Page, Section, titled
from framework.report.svg import Panel
from framework.types import Categorical, Event, Number


def render(page: Page) -> Content:
    """Panels of a few subjects for each target, and the data of the explorer."""
    return {"targets": [_target(page, name, one) for name, one in page.named_targets()], **_explorer(page)}


def _target(page: Page, name: str, one: Outcomes) -> Content:
    shown = page.run.shown(one.target.name)
    return titled(one) | {
        "event": isinstance(one.target, Event),
        "shown": shown,
        "panels": _panels(page, name, one, shown),
    }


def _panels(page: Page, name: str, one: Outcomes, shown: str) -> list[Panel]:
    run, pens = page.run, page.pens
    assert run.history is not None  # the section needs it
    match one.target:
        case Number() | Categorical():
            return trajectories(one, run.history, shown, run.references, pens, name)
        case Event():
            return survival.curves(one, shown, run.references, pens, name)
        case _:
            assert_never(one.target)


def _explorer(page: Page) -> Content:
    run = page.run
    found = explorer.explorer(run.outcomes, run.history, [run.shown(one.target.name) for one in run.outcomes])
    if found is None:
        return {"explorer": None}
    places = {"pens": {pen.model: pen.index for pen in page.pens.values()}}
    return {"explorer": found, "explorer_data": Markup(explorer.as_script(found | places))}


SECTION = Section("trajectories", "Trajectories", 20, render, needs=("history",), script="explorer.js")
