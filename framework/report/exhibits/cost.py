"""The cost of each model's training, as tables and as a roofline."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from framework.report.exhibits.roofline import Point, roofline
from framework.report.svg import Panel, Pen
from framework.report.tables import Cell, Table


@dataclass(frozen=True)
class Column:
    """A figure of the cost record: its heading, the unit it is divided by, and decimals."""

    key: str
    title: str
    unit: float = 1.0
    places: int = 0


TIME = (
    Column("members", "Members"),
    Column("steps", "Steps"),
    Column("compile_seconds", "Compiling (s)", places=1),
    Column("seconds", "Wall time (s)", places=1),
    Column("waiting", "Waiting (%)", 0.01, 1),
    Column("scans_per_second", "Scans/s"),
    Column("visits_per_second", "Visits/s"),
    Column("subjects_per_second", "Subjects/s"),
)
WORK = (
    Column("step_flops", "GFLOP a step", 1e9, 3),
    Column("step_bytes", "MB a step", 1e6, 1),
    Column("intensity", "FLOPs a byte", places=1),
    Column("flops_per_second", "GFLOP/s", 1e9, 1),
    Column("peak_share", "Share of peak (%)", 0.01, 1),
    Column("bound", "Bound by"),
    Column("peak_memory", "Peak memory (GB)", 1e9, 2),
)


def tables(costs: Mapping[str, Mapping]) -> list[Table]:
    """Time and work of every model; a figure that no model has leaves its table, and an empty table the page."""
    made = []
    for name, title, columns in (("time", "Time, by model", TIME), ("work", "Work and memory, by model", WORK)):
        some = tuple(c for c in columns if any(cost.get(c.key) is not None for cost in costs.values()))
        rows = [[Cell(model), *(_cell(cost.get(c.key), c) for c in some)] for model, cost in costs.items()]
        data = pd.DataFrame(
            [{"model": model, **{c.key: cost.get(c.key) for c in some}} for model, cost in costs.items()]
        )
        if some:
            made.append(Table(f"cost-{name}", title, ("Model", *(c.title for c in some)), rows, data))
    return made


def roof(costs: Mapping[str, Mapping], pens: Mapping[str, Pen]) -> Panel | None:
    """Every model whose share of the peak is known, under the roof of the machine that trained it."""
    some = {model: cost for model, cost in costs.items() if model in pens and cost.get("peak_share")}
    if not some:
        return None
    points = [
        Point(model, cost["intensity"], cost["flops_per_second"], pens[model].colour, pens[model].mark)
        for model, cost in some.items()
    ]
    one = next(iter(some.values()))
    peak = one["flops_per_second"] / one["peak_share"]
    return roofline("roof", "Roofline", points, peak, peak / one["ridge"])


def uncounted(costs: Mapping[str, Mapping]) -> list[str]:
    """Operations that are not counted, which the FLOPs lack."""
    return sorted({name for cost in costs.values() for name in cost.get("uncounted") or ()})


def device(costs: Mapping[str, Mapping]) -> str | None:
    """The device of the measurement, where it is recorded."""
    return next((cost["device"] for cost in costs.values() if cost.get("device")), None)


def _cell(value: float | int | str | None, column: Column) -> Cell:
    if value is None:
        return Cell("–")
    if isinstance(value, str):
        return Cell(value)
    return Cell(f"{value / column.unit:,.{column.places}f}", str(value))
