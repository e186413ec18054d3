"""The leaderboard as plain text for the terminal."""

import io
import math
from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from framework.evaluate.leaderboard import Estimate, Row
from framework.evaluate.metrics.registry import FIRST
from framework.evaluate.subgroups import Group

UNESTIMABLE = "not estimable"
ABBREVIATIONS = {  # metrics known by letters alone
    "WES": "WES: weighted error score, the mean absolute error, weighted by how narrow the 50% interval is",
    "CPA": "CPA: coverage probability accuracy, the distance of the 50% interval's coverage from 50%",
}


def as_text(rows: Sequence[Row]) -> str:
    """Return a block for each target: models in the order of their ranks, the headline metric with its 95% interval
    and differences to the references, then other metrics; the reasons of scores that are not estimable; a legend.
    """
    page = io.StringIO()
    console = Console(file=page, width=200, color_system=None, highlight=False)
    for target, block in groupby(rows, key=lambda row: row.target):
        metrics = [list(group) for _, group in groupby(block, key=lambda row: row.metric)]
        head = metrics[0][0]
        said = f"{head.pairs} forecasts of {head.subjects} subjects{compared(metrics[0])}"
        console.print(f"\n{target}: {said}", markup=False)
        order = [row.model for row in sorted(metrics[0], key=Row.loss)]
        metrics = [sorted(group, key=lambda row: order.index(row.model)) for group in metrics]
        console.print(_headline(metrics[0]))
        console.print(_others(metrics[1:FIRST]))
        for line in reasons(metrics[:FIRST]):
            console.print(line, markup=False)
    console.print()
    for line in _legend(rows):
        console.print(line, markup=False)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines()) + "\n"


def _legend(rows: Sequence[Row]) -> list[str]:
    lines = ["* the best value of a metric; intervals are 95% intervals over subjects"]
    if any(row.letters for row in rows):
        lines.append("group: models that share a letter are not statistically distinguishable (all pairs at 5%, Holm)")
    return lines + abbreviations([row.metric for row in rows])


def abbreviations(metrics: Sequence[str]) -> list[str]:
    """Return an explanation of each metric that is known by letters alone."""
    return [text for name, text in ABBREVIATIONS.items() if any(name in metric.split() for metric in metrics)]


def compared(rows: Sequence[Row]) -> str:
    """How many pairs a ranking compares, as the end of a sentence; nothing for other scores."""
    counts = [row.comparable for row in rows if row.comparable is not None]
    return f"; {rows[0].metric} compares {min(counts)} pairs, each within a fold" if counts else ""


def reasons(metrics: Sequence[Sequence[Row]]) -> list[str]:
    """Why some scores are not estimable, a line a reason."""
    said: dict[tuple[str, str], list[str]] = {}
    for row in (row for rows in metrics for row in rows if row.value is None):
        said.setdefault((row.metric, row.reason or "the run does not say why"), []).append(row.model)
    everybody = {row.model for rows in metrics for row in rows}
    lines = []
    for (metric, reason), models in said.items():
        whose = "" if set(models) == everybody else f" of {', '.join(models)}"
        lines.append(f"{metric}{whose} is not estimable: {reason}")
    return lines


def _headline(rows: list[Row]) -> Table:
    references = references_of(rows)
    table = _table("model", heading(rows[0]), "group", *(f"difference to {name}" for name in references))
    places, best = decimals(rows), min(row.loss() for row in rows)
    for row in rows:
        mark = "* " if row.value is not None and row.loss() == best else "  "
        value = mark + bracketed(Estimate(row.value, row.low, row.high), places)
        differences = [bracketed(row.differences.get(name), places, "+") for name in references]
        table.add_row(Text(row.model), Text(value), Text(row.letters), *map(Text, differences))
    return table


def _others(metrics: list[list[Row]]) -> Table:
    table = _table("model", *(rows[0].metric for rows in metrics))
    scales = [(decimals(rows), min(row.loss() for row in rows)) for rows in metrics]
    for rows in zip(*metrics, strict=True):
        cells = [
            number(row.value, places) + ("*" if row.value is not None and row.loss() == best else " ")
            for row, (places, best) in zip(rows, scales, strict=True)
        ]
        table.add_row(Text(rows[0].model), *map(Text, cells))
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(Text(first))
    for name in others:
        table.add_column(Text(name), justify="right", no_wrap=True)
    return table


def heading(row: Row) -> str:
    """A metric's name with its unit, such as "MAE (points)"."""
    return row.metric if row.unit is None else f"{row.metric} ({row.unit})"


def references_of(rows: Sequence[Row]) -> list[str]:
    """The models that the others are compared to, in the order named."""
    fullest = sorted(rows, key=lambda row: -len(row.differences))  # a reference lacks itself
    return list(dict.fromkeys(name for row in fullest for name in row.differences))


def decimals(rows: Sequence[Row] | Sequence[Group]) -> int:
    """As many decimals as give the largest value of a metric three digits."""
    largest = max((abs(row.value) for row in rows if row.value), default=1.0)
    return min(9, max(0, 2 - math.floor(math.log10(largest))))


def number(value: float | None, places: int, sign: str = "") -> str:
    """Return a value with `places` decimals, zero without a minus; a dash where it is undefined."""
    return "–" if value is None else f"{value:{sign}z.{places}f}"


def bracketed(estimate: Estimate | None, places: int, sign: str = "") -> str:
    """ "2.31 [2.02, 2.60]", "not estimable", or nothing where none was wanted."""
    if estimate is None:
        return ""
    if estimate.value is None:
        return UNESTIMABLE
    value, low, high = (number(x, places, sign) for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"
