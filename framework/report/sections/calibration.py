"""Calibration: whether outcomes occur as often as was forecast."""

from typing import assert_never

from framework.report.exhibits import calibration, survival
from framework.report.sections.base import Content, Page, Section
from framework.report.svg import Panel
from framework.report.tables import Table
from framework.types import Categorical, Event, Number


def render(page: Page) -> Content:
    """Panels of quantiles, probabilities and survival, and all of them as tables."""
    pens, draws = page.pens, page.run.resampling
    quantiles: list[Panel] = []
    probabilities: list[Panel] = []
    survivals: list[Panel] = []
    tables: list[Table] = []
    for name, one in page.named_targets():
        match one.target:
            case Number():
                quantiles += calibration.calibration(one, pens, name, draws)
                tables.append(calibration.table(one, draws))
            case Categorical():
                probabilities += calibration.calibration(one, pens, name, draws)
                tables.append(calibration.table(one, draws))
            case Event():
                drawn = [pens[model] for model in one.forecasts]
                survivals += [survival.calibration(one, pen, f"{name}-{pen.index}", draws) for pen in drawn]
                tables.append(survival.calibration_table(one, draws))
            case _:
                assert_never(one.target)
    return {"quantiles": quantiles, "probabilities": probabilities, "survival": survivals, "tables": tables}


SECTION = Section("calibration", "Calibration", 30, render)
