"""Calibration: whether outcomes occur as often as was forecast."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes

from framework.evaluate.outcomes import Outcomes
from framework.report.spread import Resampling
from framework.report.svg import INK, MUTED, Panel, Pen, panel
from framework.report.tables import Cell, Table, estimates, interval, words
from framework.types import LEVELS, Categorical

BINS = np.linspace(0, 1, 6)


def calibration(one: Outcomes, pens: dict[str, Pen], name: str, how: Resampling) -> list[Panel]:
    """For quantiles one panel with all models; for classes one a model, with the counts."""
    if isinstance(one.target, Categorical):
        return [_probabilities(one, pens[model], f"{name}-{pens[model].index}", how) for model in one.forecasts]
    return [_quantiles(one, pens, name, how)]


def table(one: Outcomes, how: Resampling) -> Table:
    """The same in numbers: truths below each quantile, or how often each bin of a probability came true."""
    return (_table_of_bins if isinstance(one.target, Categorical) else _table_of_quantiles)(one, how)


def below(one: Outcomes, model: str) -> Float[np.ndarray, "q l"]:
    """Share of the repeats in which a truth lies below each quantile, one that is hit counting half."""
    quantiles, truth = one.quantiles(model), one.truth[None, :, None]
    return ((truth < quantiles) + (truth == quantiles) / 2).mean(0)


def shares(one: Outcomes, model: str, how: Resampling) -> Float[np.ndarray, "3 l"]:
    """The share of the truths below each quantile with its 95% interval."""
    share = below(one, model)
    fold = one.fold[: len(one.forecasts[model])]
    return how.means(share, np.ones_like(share), one.subject, len(one.subjects), fold, (0.0, 1.0))


def _quantiles(one: Outcomes, pens: dict[str, Pen], name: str, how: Resampling) -> Panel:
    def draw(axes: Axes) -> None:
        _diagonal(axes)
        for i, model in enumerate(one.forecasts):
            value, low, high = shares(one, model, how)
            x = np.array(LEVELS) + 0.014 * (i - (len(one.forecasts) - 1) / 2)
            _points(axes, x, value, low, high, pens[model])
            axes.plot(x, value, color=pens[model].colour, linewidth=1)
        axes.set_xticks(LEVELS, [f"{level:.0%}" for level in LEVELS])
        axes.set_xlabel("level of the quantile")
        axes.set_ylabel("truths below it")

    says = f"Share of the truths of {one.target.name} below each forecast quantile, by model; the diagonal is ideal"
    return panel(f"calibration-{name}", one.target.name, says, draw, size=(3.2, 2.7))


def _table_of_quantiles(one: Outcomes, how: Resampling) -> Table:
    found = {model: shares(one, model, how) for model in one.forecasts}
    return Table(
        f"calibration-{one.target.name}",
        f"Share of the truths of {one.target.name} below each forecast quantile, with 95% intervals",
        ("Quantile", *found),
        [
            [Cell(f"{level:.0%}", repr(level)), *(Cell(interval(share[:, k], 3)) for share in found.values())]
            for k, level in enumerate(LEVELS)
        ],
        estimates({"quantile": LEVELS}, list(found), np.stack(list(found.values()))),
    )


def probability(one: Outcomes, model: str) -> tuple[Float[np.ndarray, "r q"], Float[np.ndarray, "r q"], str]:
    """A probability that was given, whether it came true, and of what it was: the event, else the class called."""
    assert isinstance(one.target, Categorical)  # nothing else is forecast by probabilities of levels
    forecast, event = one.forecasts[model], one.target.positive
    if event is not None:
        came = np.broadcast_to(one.truth >= event, forecast.shape[:2])
        return forecast[..., event:].sum(-1), came.astype(float), f"{one.target.name} ≥ {one.target.levels[event]}"
    return forecast.max(-1), (forecast.argmax(-1) == one.truth).astype(float), "the most probable class"


@dataclass(frozen=True)
class Binned:
    """The n bins of a probability that were used: their place, mean forecast, observed frequency and counts."""

    what: str
    place: Int[np.ndarray, " n"]
    said: Float[np.ndarray, " n"]
    came: Float[np.ndarray, "3 n"]
    counts: Float[np.ndarray, " n"]


def binned(one: Outcomes, model: str, how: Resampling) -> Binned:
    """Bins of a probability beside what came; counts are means over the repeats."""
    given, came, what = probability(one, model)
    inside = np.clip(np.digitize(given, BINS) - 1, 0, len(BINS) - 2)[..., None] == np.arange(len(BINS) - 1)
    counts = inside.sum((0, 1)) / len(given)
    weights, hits = inside.sum(0).astype(float), (inside * came[..., None]).sum(0)
    values = np.divide(hits, weights, out=np.zeros_like(hits), where=weights > 0)
    used = np.flatnonzero(counts > 0)
    said = (inside * given[..., None]).sum((0, 1))[used] / inside.sum((0, 1))[used]
    came = how.means(values, weights, one.subject, len(one.subjects), one.fold[: len(given)], (0.0, 1.0))
    return Binned(what, used, said, came[:, used], counts[used])


def _probabilities(one: Outcomes, pen: Pen, name: str, how: Resampling) -> Panel:
    found = binned(one, pen.model, how)

    def draw(axes: Axes) -> None:
        _diagonal(axes)
        value, low, high = found.came
        _points(axes, found.said, value, low, high, pen)
        for place, count in zip(found.said, found.counts, strict=True):
            axes.annotate(f"{count:.0f}", (place, 1.03), ha="center", va="bottom", fontsize=6.5, color=MUTED)
        axes.set_ylim(-0.04, 1.12)
        axes.set_yticks(np.linspace(0, 1, 6), [f"{y:.0%}" for y in np.linspace(0, 1, 6)])
        axes.set_xticks(np.linspace(0, 1, 6), [f"{x:.0%}" for x in np.linspace(0, 1, 6)])
        axes.set_xlabel(f"forecast probability of {found.what}")
        axes.set_ylabel("came true")

    says = f"How often {found.what} came true against its probability, {pen.model}; the diagonal is ideal"
    return panel(f"calibration-{name}", f"{one.target.name}, {pen.model}", says, draw, size=(3.2, 2.7))


def _table_of_bins(one: Outcomes, how: Resampling) -> Table:
    found = {model: binned(one, model, how) for model in one.forecasts}
    ends = [f"{low:.0%} to {high:.0%}" for low, high in pairwise(BINS)]
    names = "bin", "forecasts", "said", "came", "low", "high"
    rows = [
        (model, ends[place], count, said, *came)
        for model, bins in found.items()
        for place, count, said, came in zip(bins.place, bins.counts, bins.said, bins.came.T, strict=True)
    ]
    what = next(iter(found.values())).what
    return Table(
        f"calibration-{one.target.name}",
        f"Forecast probability of {what} and how often it came true, with 95% intervals",
        ("Model", "Bin", "Forecasts", "Mean forecast", "Came true"),
        [
            [*words(model, bin, f"{count:.0f}", f"{said:.3f}"), Cell(interval(came, 3))]
            for model, bin, count, said, *came in rows
        ],
        pd.DataFrame(rows, columns=["model", *names]),
        words=2,
        grouped=True,
    )


def _diagonal(axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_yticks(np.linspace(0, 1, 6), [f"{y:.0%}" for y in np.linspace(0, 1, 6)])
    axes.set_xlim(-0.04, 1.04)
    axes.set_ylim(-0.04, 1.04)


def _points(axes: Axes, x, value, low, high, pen: Pen) -> None:
    axes.vlines(x, low, high, color=pen.colour, linewidth=1.2, alpha=0.6)
    axes.plot(x, value, pen.mark, color=pen.colour)
