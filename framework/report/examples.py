"""What was forecast for some subjects, and what came to pass."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int
from matplotlib.axes import Axes

from framework.evaluate.outcomes import Outcomes
from framework.report.drawing import INK, MUTED, PAPER, Panel, Pen, panel
from framework.report.horizon import error
from framework.types import Target

COUNT = 6


@dataclass(frozen=True)
class Example:
    """One subject's queries (places in the outcomes, by time) from one origin, and why the subject was chosen."""

    subject: str
    reason: str
    queries: Int[np.ndarray, " n"]


def choose(one: Outcomes, model: str) -> list[Example]:
    """Subjects that show the range of the model's answers: smallest, median and largest error, and so on.

    Each is taken from its second visit, or from the first where nothing is asked from the second. Among those with
    two later visits or more where they suffice. A subject that is chosen already leaves its place to the next.
    """
    places = {i: _queries(one, i) for i in np.unique(one.subject)}
    several = {i: queries for i, queries in places.items() if len(queries) > 1}
    places = several if len(several) >= COUNT else places
    errors = {i: error(one, model)[0, queries].mean() for i, queries in places.items()}
    middle = np.median(list(errors.values()))
    change = {i: np.ptp(one.truth[queries]) for i, queries in places.items()}
    reach = {i: one.time[queries].max() for i, queries in places.items()}
    measures = {
        "smallest error": {i: -e for i, e in errors.items()},
        "median error": {i: -abs(e - middle) for i, e in errors.items()},
        "largest error": errors,
        "most visits": {i: len(queries) for i, queries in places.items()},
        "longest follow-up": reach,
        "largest change": change,
    }
    chosen: dict[int, str] = {}
    for reason, measure in measures.items():
        free = [i for i in measure if i not in chosen]
        if free:
            chosen[max(free, key=lambda i: measure[i])] = reason
    return [Example(one.subjects[i], reason, places[i]) for i, reason in chosen.items()]


def _queries(one: Outcomes, subject: int) -> Int[np.ndarray, " n"]:
    mine = np.flatnonzero(one.subject == subject)
    origins = np.unique(one.origin[mine])
    mine = mine[one.origin[mine] == origins[min(1, len(origins) - 1)]]
    return mine[np.argsort(one.time[mine])]


def trajectories(one: Outcomes, history: pd.DataFrame, model: str, pens: dict[str, Pen], name: str) -> list[Panel]:
    """The chosen subjects, answered by `model` in the first repeat."""
    past = history[history["target"] == one.target.name]
    panels = []
    for i, example in enumerate(choose(one, model)):
        seen = past[past["subject"] == example.subject].assign(time=lambda t: t["time"].astype(float))
        seen = seen[seen["time"] <= one.origin_time[example.queries[0]] + 1e-9].sort_values("time")
        times, values = seen["time"].to_numpy(), _numbers(seen["value"], one.target)
        draw = _levels if one.target.levels else _fan

        def picture(axes: Axes, draw=draw, example=example, times=times, values=values) -> None:
            draw(axes, one, example.queries, times, values, model, pens)
            axes.set_xlabel("years since the first visit")
            axes.set_xlim(left=-0.25)

        says = f"{one.target.name} of subject {example.subject}: history, forecast by {model}, and truth"
        panels.append(panel(f"example-{name}-{i}", example.subject, says, picture, note=example.reason))
    return panels


def _numbers(values: pd.Series, target: Target) -> np.ndarray:
    return np.array([target.levels.index(v) if target.levels else float(v) for v in values], float)


def _fan(axes: Axes, one: Outcomes, queries, times, values, model: str, pens: dict[str, Pen]) -> None:
    """Bands run straight from the last observed value to the quantiles at each visit that was asked."""
    later, anchor = one.time[queries], len(times) > 0
    start = (times[-1:], values[-1:]) if anchor else (times[:0], values[:0])
    x = np.concatenate([start[0], later])

    def line(answers: np.ndarray) -> np.ndarray:
        return np.concatenate([start[1], answers])

    for other, forecast in one.forecasts.items():
        if other != model:
            middle = line(forecast[0, queries, 2])
            axes.plot(x, middle, color=pens[other].colour, linewidth=0.9, linestyle=(0, (2, 2)))
    q, colour = one.forecasts[model][0, queries].T, pens[model].colour
    axes.fill_between(x, line(q[0]), line(q[4]), color=colour, alpha=0.14, linewidth=0)
    axes.fill_between(x, line(q[1]), line(q[3]), color=colour, alpha=0.24, linewidth=0)
    axes.vlines(later, q[0], q[4], color=colour, linewidth=0.8)
    axes.vlines(later, q[1], q[3], color=colour, linewidth=2.6)
    axes.plot(x, line(q[2]), color=colour, linewidth=1.5)
    axes.plot(times, values, "o-", color=INK, linewidth=0.9, markersize=4.5)
    axes.plot(later, one.truth[queries], "o", color=INK, markerfacecolor=PAPER, markersize=5, zorder=5)
    axes.axvline(one.origin_time[queries[0]], color=MUTED, linewidth=0.7, linestyle=(0, (1, 2)))
    units = "" if one.target.units == "1" else f" ({one.target.units})"
    axes.set_ylabel(one.target.name + units)


def _levels(axes: Axes, one: Outcomes, queries, times, values, model: str, pens: dict[str, Pen]) -> None:
    """At each visit that was asked, a disc on every level with its probability as area."""
    later, probabilities = one.time[queries], one.forecasts[model][0, queries]
    for level in range(probabilities.shape[1]):
        sizes = 220 * probabilities[:, level]
        axes.scatter(later, np.full(len(later), level), s=sizes, color=pens[model].colour, alpha=0.45, linewidth=0)
    axes.plot(times, values, "o-", color=INK, linewidth=0.9, markersize=4.5)
    axes.plot(later, one.truth[queries], "o", color=INK, markerfacecolor="none", markersize=5, zorder=5)
    axes.axvline(one.origin_time[queries[0]], color=MUTED, linewidth=0.7, linestyle=(0, (1, 2)))
    axes.set_yticks(range(len(one.target.levels)), one.target.levels)
    axes.set_ylim(-0.6, len(one.target.levels) - 0.4)
    axes.set_ylabel(one.target.name)
