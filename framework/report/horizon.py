"""The error by how many years ahead was asked."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from framework.evaluate.classification import CLIP
from framework.evaluate.outcomes import Outcomes
from framework.evaluate.regression import MEDIAN
from framework.report.drawing import Panel, Pen, panel
from framework.report.spread import means

FEWEST = 10  # pairs in a bin; a smaller one is joined to the one before


def error(one: Outcomes, model: str) -> Float[np.ndarray, "r q"]:
    """The absolute error of the median, or the log loss."""
    forecast = one.forecasts[model]
    if not one.target.levels:
        return np.abs(forecast[..., MEDIAN] - one.truth)
    given = np.take_along_axis(forecast, one.truth.astype(int)[None, :, None], axis=2)[..., 0]
    return -np.log(np.maximum(given, CLIP))


def edges(ahead: Float[np.ndarray, " q"]) -> list[float]:
    """Whole years ahead, joined where they hold too few pairs."""
    kept = [0.0]
    for year in range(1, int(np.ceil(ahead.max())) + 1):
        if np.sum((ahead > kept[-1]) & (ahead <= year)) >= FEWEST:
            kept.append(float(year))
    if len(kept) == 1 or np.any(ahead > kept[-1]):
        kept[max(1, len(kept) - 1) :] = [float(np.ceil(ahead.max()))]
    return kept


def by_horizon(one: Outcomes, pens: dict[str, Pen], name: str) -> Panel:
    """The mean error of every model in each bin of years ahead, with the counts."""
    ahead = one.time - one.origin_time
    ends = edges(ahead)
    inside = (ahead[:, None] > ends[:-1]) & (ahead[:, None] <= ends[1:])
    label = "log loss (nats)" if one.target.levels else f"absolute error ({one.target.units})"

    def draw(axes: Axes) -> None:
        middle = np.arange(len(ends) - 1)
        for i, model in enumerate(one.forecasts):
            errors = np.repeat(error(one, model).mean(0)[:, None], len(middle), axis=1)
            value, low, high = means(errors, inside.astype(float), one.subject)
            x, pen = middle + 0.12 * (i - (len(one.forecasts) - 1) / 2), pens[model]
            axes.vlines(x, low, high, color=pen.colour, linewidth=1.2, alpha=0.6)
            axes.plot(x, value, color=pen.colour, marker=pen.mark, linewidth=1)
        names = [f"{a:g}–{b:g}\nn={n}" for a, b, n in zip(ends[:-1], ends[1:], inside.sum(0), strict=True)]
        axes.set_xticks(middle, names)
        axes.set_xlim(-0.6, len(middle) - 0.4)
        axes.set_ylim(bottom=0)
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("years ahead")
        axes.set_ylabel(label.replace(" (", "\n("))  # a long unit would run over the title

    says = f"Mean {label} of {one.target.name} by years ahead and model, with 95% intervals"
    return panel(f"horizon-{name}", one.target.name, says, draw)
