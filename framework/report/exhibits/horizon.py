"""The error by how many years ahead was asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import assert_never

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes

from framework.evaluate.outcomes import Outcomes
from framework.report.spread import Resampling
from framework.report.svg import Panel, Pen, panel
from framework.report.tables import Cell, Table, estimates, interval, places_of, words
from framework.scores import log_loss
from framework.types import Categorical, Event, Number

FEWEST = 10  # pairs in a bin; a smaller one is joined to the one before


def error(one: Outcomes, model: str) -> Float[np.ndarray, "r q"]:
    """The absolute error of the point forecast, or the log loss."""
    match one.target:
        case Number():
            return np.abs(one.points(model) - one.truth)
        case Categorical():
            forecast = one.forecasts[model]
            return log_loss(forecast, np.broadcast_to(one.truth, forecast.shape[:2]))
        case Event():
            raise TypeError(f"got the event {one.target.name!r}, expected a variable; fix: survival.horizons")
        case _:
            assert_never(one.target)


def edges(ahead: Float[np.ndarray, " q"]) -> list[float]:
    """Whole years ahead, joined where they hold too few pairs."""
    kept = [0.0]
    for year in range(1, int(np.ceil(ahead.max())) + 1):
        if np.sum((ahead > kept[-1]) & (ahead <= year)) >= FEWEST:
            kept.append(float(year))
    if len(kept) == 1 or np.any(ahead > kept[-1]):
        kept[max(1, len(kept) - 1) :] = [float(np.ceil(ahead.max()))]
    return kept


@dataclass(frozen=True)
class Horizons:
    """The h horizons: their names and numbers of forecasts, and each model's mean error with its 95% interval."""

    measure: str
    names: Sequence[str]
    counts: Int[np.ndarray, " h"]
    errors: Mapping[str, Float[np.ndarray, "3 h"]]


def horizons(one: Outcomes, how: Resampling) -> Horizons:
    """The mean error of every model in each bin of years ahead."""
    ahead = one.time - one.origin_time
    ends = edges(ahead)
    inside = (ahead[:, None] > ends[:-1]) & (ahead[:, None] <= ends[1:])

    def errors(model: str) -> Float[np.ndarray, "3 h"]:
        each = np.repeat(error(one, model).mean(0)[:, None], inside.shape[1], axis=1)
        fold = one.fold[: len(one.forecasts[model])]
        return how.means(each, inside.astype(float), one.subject, len(one.subjects), fold, (0.0, np.inf))

    names = [f"{a:g}–{b:g}" for a, b in pairwise(ends)]
    measure = f"absolute error ({one.target.units})" if isinstance(one.target, Number) else "log loss (nats)"
    return Horizons(measure, names, inside.sum(0), {model: errors(model) for model in one.forecasts})


def by_horizon(one: Outcomes, found: Horizons, pens: dict[str, Pen], name: str) -> Panel:
    """The errors with the counts, models a little apart."""
    middle = np.arange(len(found.names))

    def draw(axes: Axes) -> None:
        for i, (model, (value, low, high)) in enumerate(found.errors.items()):
            x, pen = middle + 0.12 * (i - (len(found.errors) - 1) / 2), pens[model]
            axes.vlines(x, low, high, color=pen.colour, linewidth=1.2, alpha=0.6)
            axes.plot(x, value, color=pen.colour, marker=pen.mark, linewidth=1)
        axes.set_xticks(middle, [f"{k}\nn={n}" for k, n in zip(found.names, found.counts, strict=True)])
        axes.set_xlim(-0.6, len(middle) - 0.4)
        axes.set_ylim(bottom=0)
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("years ahead")
        axes.set_ylabel(found.measure.replace(" (", "\n("))  # a long unit would run over the title

    says = f"Mean {found.measure} of {one.target.name} by years ahead and model, with 95% intervals"
    return panel(f"horizon-{name}", one.target.name, says, draw)


def table(one: Outcomes, found: Horizons) -> Table:
    """The same in numbers."""
    values = np.stack(list(found.errors.values()))
    keys = {"years ahead": found.names, "forecasts": found.counts}
    return Table(
        f"horizon-{one.target.name}",
        f"Mean {found.measure} of {one.target.name} by years ahead, with 95% intervals",
        ("Years ahead", "Forecasts", *found.errors),
        [
            [*words(key, count), *(Cell(interval(model[:, k], places_of(values[:, 0]))) for model in values)]
            for k, (key, count) in enumerate(zip(found.names, found.counts, strict=True))
        ],
        estimates(keys, list(found.errors), values),
    )
