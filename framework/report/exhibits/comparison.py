"""Comparison of models: interval plots of the headline metric and of its differences to the references."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from framework.evaluate.leaderboard import Estimate, Row
from framework.evaluate.terminal_table import bracketed, decimals, heading, reasons
from framework.report.svg import INK, PAPER, Panel, Pen, panel

WAYS = {"lower": "lower is better", "higher": "higher is better"}


def values(rows: Sequence[Row], pens: dict[str, Pen], name: str) -> Panel:
    """The headline metric of each model, the best at the top."""
    ranked = sorted((row for row in rows if row.value is not None), key=Row.loss, reverse=True)
    head = rows[0]

    def draw(axes: Axes) -> None:
        for y, row in enumerate(ranked):
            _interval(axes, y, Estimate(row.value, row.low, row.high), pens[row.model])
        _rows(axes, [row.model for row in ranked])
        axes.set_xlabel(heading(head))

    says = f"{heading(head)} of {head.target} with 95% intervals: {_listing(ranked)}"
    return panel(f"value-{name}", heading(head), says, draw, _size(ranked), WAYS[str(head.better)])


def differences(rows: Sequence[Row], pens: dict[str, Pen], reference: str, name: str) -> Panel | None:
    """The paired difference of each other model to a reference forecast; None where none is defined."""
    ranked = [
        (row, row.differences[reference])
        for row in sorted(rows, key=Row.loss, reverse=True)
        if reference in row.differences and row.differences[reference].value is not None
    ]
    if not ranked:
        return None

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=INK, linewidth=0.9)
        for y, (row, estimate) in enumerate(ranked):
            _interval(axes, y, estimate, pens[row.model])
        _rows(axes, [row.model for row, _ in ranked])
        axes.set_xlabel(f"difference in {heading(rows[0])}")

    says = f"Paired differences in {heading(rows[0])} of {rows[0].target} to {reference}, with 95% intervals"
    note = f"{'below' if rows[0].better == 'lower' else 'above'} 0 is better"
    mark = f"difference-{name}-{pens[reference].index}"
    return panel(mark, f"Difference to {reference}", says, draw, _size(ranked), note)


def _size(rows: Sequence) -> tuple[float, float]:
    return 3.2, 0.75 + 0.27 * len(rows)


def _interval(axes: Axes, y: int, estimate: Estimate, pen: Pen) -> None:
    low, value, high = np.array([estimate.low, estimate.value, estimate.high], float)
    axes.plot([low, high], [y, y], color=pen.colour, linewidth=1.8, solid_capstyle="round")
    # hollow where the interval of a difference includes zero
    face = PAPER if includes_zero(estimate) else pen.colour
    axes.plot(value, y, pen.mark, color=pen.colour, markerfacecolor=face, markersize=5.5, zorder=3)


def _rows(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=4)


def _listing(rows: Sequence[Row]) -> str:
    places = decimals(rows)
    return "; ".join(f"{r.model} {bracketed(Estimate(r.value, r.low, r.high), places)}" for r in reversed(rows))


def includes_zero(estimate: Estimate | None) -> bool:
    """Whether the interval of a difference holds 0, so that it may be none."""
    return (
        estimate is not None
        and estimate.low is not None
        and estimate.high is not None
        and estimate.low <= 0 <= estimate.high
    )


def sentence(rows: Sequence[Row], references: Sequence[str]) -> str:
    """A sentence about the headline metric that claims no more than the intervals do."""
    best, places = min(rows, key=Row.loss), decimals(rows)
    if best.value is None:
        return f"{reasons([rows])[0]}."
    value = bracketed(Estimate(best.value, best.low, best.high), places)
    said = f"{best.model} has the {'lowest' if best.better == 'lower' else 'highest'} {heading(best)}: {value}."
    if best.model in references:
        return said + (" No model surpasses this reference forecast." if len(rows) > len(references) else "")
    for reference, estimate in best.differences.items():
        verb = "is not statistically distinguishable from" if includes_zero(estimate) else "differs from"
        folds = "" if estimate.over_folds is None else f"; over the folds p = {estimate.over_folds:.2g}"
        said += f" It {verb} {reference}: {bracketed(estimate, places, '+')}{folds}."
    return said
