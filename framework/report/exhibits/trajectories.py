"""Forecasts of some subjects beside their observed outcomes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int
from matplotlib.axes import Axes

from framework.evaluate.outcomes import Outcomes
from framework.report.exhibits.horizon import error
from framework.report.svg import INK, MUTED, PAPER, Panel, Pen, panel
from framework.types import MEDIAN, Categorical

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
    places = {i: _queries(one, i) for i in np.unique(one.subject).tolist()}
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


def trajectories(
    one: Outcomes, history: pd.DataFrame, model: str, references: Sequence[str], pens: dict[str, Pen], name: str
) -> list[Panel]:
    """The chosen subjects, answered by `model` in the first repeat."""
    panels = []
    dashed = [pens[reference] for reference in references if reference in one.forecasts and reference != model]
    for i, example in enumerate(choose(one, model)):
        times, values = _seen(one, example, history)

        def draw(axes: Axes, queries=example.queries, times=times, values=values) -> None:
            if isinstance(one.target, Categorical):
                _discs(axes, one, queries, pens[model])
            else:
                _fan(axes, one, queries, times[-1:], values[-1:], pens[model], dashed)
            face = "none" if isinstance(one.target, Categorical) else PAPER
            axes.plot(times, values, "o-", color=INK, linewidth=0.9)
            axes.plot(
                one.time[queries], one.truth[queries], "o", color=INK, markerfacecolor=face, markersize=5, zorder=5
            )
            axes.axvline(float(one.origin_time[queries[0]]), color=MUTED, linewidth=0.7, linestyle=(0, (1, 2)))
            axes.set_xlabel("years since the first visit")
            axes.set_xlim(left=-0.25)

        says = f"{one.target.name} of subject {example.subject}: history, forecast by {model}, and truth"
        panels.append(panel(f"example-{name}-{i}", example.subject, says, draw, note=example.reason))
    return panels


def _seen(one: Outcomes, example: Example, history: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Times and values of the target that were observed up to the origin."""
    levels, origin = one.levels, one.origin_time[example.queries[0]]
    mine = history.loc[(history["target"] == one.target.name) & (history["subject"] == example.subject)]
    points = [
        (float(t), float(levels.index(v) if levels else v)) for t, v in zip(mine["time"], mine["value"], strict=True)
    ]
    seen = sorted(point for point in points if point[0] <= origin + 1e-9)
    return np.array([time for time, _ in seen]), np.array([value for _, value in seen])


def _fan(axes: Axes, one: Outcomes, queries, time, value, pen: Pen, dashed: list[Pen]) -> None:
    """Bands run straight from the last observed value, where there is one, to the quantiles at each visit asked.

    A cross marks a forecast beyond the follow-up seen in training.
    """
    x = np.concatenate([time, one.time[queries]])

    def quantiles(model: str) -> np.ndarray:
        answers = one.quantiles(model)[0, queries].T
        return np.concatenate([np.broadcast_to(value, (len(answers), len(value))), answers], axis=1)

    for reference in dashed:
        point = np.concatenate([value, one.points(reference.model)[0, queries]])
        axes.plot(x, point, color=reference.colour, linewidth=1, linestyle=(0, (3, 2)))
    answers = quantiles(pen.model)
    for inner, opacity, width in ((0, 0.14, 0.8), (1, 0.24, 2.6)):
        low, high = answers[inner], answers[-1 - inner]
        axes.fill_between(x, low, high, color=pen.colour, alpha=opacity, linewidth=0)
        axes.vlines(x[len(time) :], low[len(time) :], high[len(time) :], color=pen.colour, linewidth=width)
    axes.plot(x, answers[MEDIAN], color=pen.colour, linewidth=1.5)
    beyond = one.beyond[0, queries]
    axes.plot(one.time[queries][beyond], answers[MEDIAN, len(time) :][beyond], "x", color=pen.colour, markersize=6)
    # a long unit would run over the title
    axes.set_ylabel(one.target.name if one.units is None else f"{one.target.name}\n({one.units})")


def _discs(axes: Axes, one: Outcomes, queries, pen: Pen) -> None:
    """At each visit that was asked, a disc on every level with its probability as area."""
    for level, probability in enumerate(one.forecasts[pen.model][0, queries].T):
        x, y = one.time[queries], np.full(len(queries), level)
        axes.scatter(x, y, s=220 * probability, color=pen.colour, alpha=0.45, linewidth=0)
    axes.set_yticks(range(len(one.levels)), one.levels)
    axes.set_ylim(-0.6, len(one.levels) - 0.4)
    axes.set_ylabel(one.target.name)
