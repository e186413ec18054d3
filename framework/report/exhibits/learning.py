"""Learning curves."""

import pandas as pd
from matplotlib.axes import Axes

from framework.report.svg import MUTED, Panel, Pen, panel


def curves(metrics: pd.DataFrame, pens: dict[str, Pen]) -> list[Panel]:
    """One panel a model: every member's loss while it was trained, on its training and its validation subjects.

    A model that is not trained in steps tells no training loss, and has no curve.
    """
    stepped = metrics.dropna(subset=["train"])
    return [_curves(rows, pens[str(model)]) for model, rows in stepped.groupby("model", sort=False)]


def _curves(rows: pd.DataFrame, pen: Pen) -> Panel:
    members = [member for _, member in rows.groupby("member")]
    faint = max(0.25, min(1.0, 2 / len(members)))

    def draw(axes: Axes) -> None:
        for member in members:
            axes.plot(member["step"], member["train"], color=MUTED, linewidth=0.8, alpha=faint, linestyle=(0, (3, 2)))
            axes.plot(member["step"], member["validation"], color=pen.colour, linewidth=1.1, alpha=faint)
        axes.set_xlabel("step")
        axes.set_ylabel("loss")

    count = f"{len(members)} member" + "s" * (len(members) > 1)
    return panel(f"learning-{pen.index}", f"{pen.model}, {count}", f"Loss of {pen.model} by training step", draw)
