"""How an event was forecast: curves of some subjects, groups by risk beside what came, and the error by horizon."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key
from matplotlib.axes import Axes

from framework.baselines.survival.kaplan_meier import kaplan_meier
from framework.evaluate.inference.bootstrap import resampled
from framework.evaluate.metrics.survival import brier, truths
from framework.evaluate.outcomes import Outcomes
from framework.report.exhibits.horizon import Horizons
from framework.report.spread import Found, Resampling, intervals
from framework.report.svg import INK, MUTED, Panel, Pen, panel
from framework.report.tables import Cell, Table, interval, words
from framework.types import Arr, Event

GROUPS = ("lowest third of risk", "middle third", "highest third")
COUNT = 6


def risk(one: Outcomes, model: str) -> Float[np.ndarray, " q"]:
    """The mean chance of the event over the horizons, in the first repeat."""
    return 1 - one.forecasts[model][0].mean(1)


def curves(one: Outcomes, model: str, references: list[str], pens: dict[str, Pen], name: str) -> list[Panel]:
    """Survival after the first origin of some subjects, spread over the forecast risk, and when their event came."""
    first = np.array([np.flatnonzero(one.subject == i)[0] for i in np.unique(one.subject)])
    ranked = first[np.argsort(risk(one, model)[first])]
    chosen = ranked[np.unique(np.linspace(0, len(ranked) - 1, COUNT).round().astype(int))]
    return [_curve(one, q, model, references, pens, f"{name}-{i}") for i, q in enumerate(chosen.tolist())]


def _curve(one: Outcomes, q: int, model: str, references: list[str], pens: dict[str, Pen], name: str) -> Panel:
    years = np.r_[0, _times(one)]
    lo, hi = one.truth[q]

    def draw(axes: Axes) -> None:
        for reference in (reference for reference in references if reference in one.forecasts and reference != model):
            curve = np.r_[1, one.forecasts[reference][0, q]]
            axes.plot(years, curve, color=pens[reference].colour, linewidth=1, linestyle=(0, (3, 2)))
        axes.plot(years, np.r_[1, one.forecasts[model][0, q]], color=pens[model].colour, marker=pens[model].mark)
        if np.isfinite(hi):
            axes.axvspan(lo, hi, color=MUTED, alpha=0.25, linewidth=0)
        else:
            axes.axvline(lo, color=INK, linewidth=1, linestyle=(0, (1, 2)))
        _shares(axes)
        axes.set_xlim(0, max(years[-1], lo if np.isinf(hi) else hi) * 1.03)
        axes.set_xlabel(f"years after the visit at {one.origin_time[q]:.1f} y")

    ended = _describe_end(lo, hi)
    says = f"Survival forecast by {model} for subject {one.subjects[one.subject[q]]}; {one.target.name} {ended}"
    return panel(f"example-{name}", one.subjects[one.subject[q]], says, draw, note=ended)


def _describe_end(low: float, high: float) -> str:
    """Return when an event came, within the resolution of a tenth of a year."""
    if not np.isfinite(high):
        return f"had not come by {low:.1f} y"
    first, last = f"{low:.1f}", f"{high:.1f}"
    return f"came at {last} y" if first == last else f"came between {first} and {last} y"


@dataclass(frozen=True)
class Thirds:
    """The k groups by risk at h horizons: the mean forecast survival, and its Kaplan-Meier estimate."""

    names: Sequence[str]
    said: Float[np.ndarray, "k h"]
    came: Float[np.ndarray, "3 k h"]


def thirds(one: Outcomes, model: str, how: Resampling) -> Thirds:
    """Thirds of the forecasts by risk; one group where a model tells everybody the same."""
    survival, times = one.forecasts[model][0], _times(one)
    order = np.argsort(np.argsort(risk(one, model), kind="stable"), kind="stable")
    alike = np.ptp(risk(one, model)) < 1e-9
    group = np.zeros(len(order), int) if alike else order * len(GROUPS) // len(order)
    some = np.unique(group)
    names = ["all alike"] if alike else [GROUPS[k] for k in some]
    said = np.stack([survival[group == k].mean(0) for k in some])
    inside = group == some[:, None]
    left = _left(one.truth, inside, times, one.subject, how.key, subjects=len(one.subjects), resamples=how.resamples)
    return Thirds(names, said, intervals(left, one.fold[:1], (0.0, 1.0)))


def calibration(one: Outcomes, pen: Pen, name: str, how: Resampling) -> Panel:
    """The mean forecast of thirds by risk beside Kaplan and Meier's estimate of what came to them."""
    found = thirds(one, pen.model, how)

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        for said, value, low, high in zip(found.said, *found.came, strict=True):
            axes.vlines(said, low, high, color=pen.colour, linewidth=1.2, alpha=0.6)
            axes.plot(said, value, marker=pen.mark, color=pen.colour, linewidth=1)
        _shares(axes)
        axes.set_xlim(-0.04, 1.04)
        axes.set_xticks(np.linspace(0, 1, 6), [f"{x:.0%}" for x in np.linspace(0, 1, 6)])
        axes.set_xlabel(f"forecast chance that {one.target.name} has not come")
        axes.set_ylabel("had not come")

    says = f"Of thirds by risk, the share without {one.target.name} against its forecast at each horizon, {pen.model}"
    return panel(f"calibration-{name}", f"{one.target.name}, {pen.model}", says, draw, size=(3.2, 2.7))


def calibration_table(one: Outcomes, how: Resampling) -> Table:
    """The same in numbers, of every model."""
    rows = [
        (model, group, years, said, *came)
        for model in one.forecasts
        for found in [thirds(one, model, how)]
        for k, group in enumerate(found.names)
        for years, said, came in zip(_times(one).tolist(), found.said[k], found.came[:, k].T, strict=True)
    ]
    return Table(
        f"calibration-{one.target.name}",
        f"Forecast chance that {one.target.name} has not come and the share in whom it had not, with 95% intervals",
        ("Model", "Group", "Years ahead", "Mean forecast", "Had not come"),
        [
            [*words(model, group, f"{years:g}", f"{said:.3f}"), Cell(interval(came, 3))]
            for model, group, years, said, *came in rows
        ],
        pd.DataFrame(rows, columns=["model", "group", "years ahead", "said", "came", "low", "high"]),
        words=2,
        grouped=True,
    )


def horizons(one: Outcomes, how: Resampling) -> Horizons:
    """The Brier score of every model at each horizon, weighted for those who were not followed so long."""
    survival, times = truths(one.truth), _times(one)

    def errors(model: str) -> Float[np.ndarray, "3 h"]:
        said, of = one.forecasts[model], {"subjects": len(one.subjects), "resamples": how.resamples}
        return intervals(
            _brier(one.truth, said, times, one.subject, how.key, **of), one.fold[: len(said)], (0.0, np.inf)
        )

    known = [int((np.asarray(survival.time > t) | np.asarray(survival.event)).sum()) for t in times]
    names = [f"{t:g}" for t in times]
    return Horizons("Brier score", names, np.array(known), {model: errors(model) for model in one.forecasts})


@partial(jax.jit, static_argnames=("subjects", "resamples"))
def _brier(
    truth: Float[Arr, "q 2"],
    said: Float[Arr, "r q h"],
    times: Float[Arr, " h"],
    subject: Int[Arr, " q"],
    key: Key[Array, ""],
    subjects: int,
    resamples: int,
) -> Found:
    """The Brier score at each horizon, with weights against censoring of each resample's own, as the integrated one."""
    survival, ends = truths(truth), jnp.asarray(times)

    def score(counts: Float[Array, "c n"]) -> Float[Array, "c h"]:
        def one(weight: Float[Array, " q"]) -> Float[Array, " h"]:
            each = jax.vmap(lambda forecast: weight @ brier(survival, forecast, ends, weight))(jnp.asarray(said))
            followed = weight @ (survival.time[:, None] > ends) > 0
            return jnp.where(followed, each.mean(0) / weight.sum(), jnp.nan)

        return lax.map(one, counts[:, jnp.asarray(subject)])

    return resampled(score, subjects, resamples, key, said.size)


@partial(jax.jit, static_argnames=("subjects", "resamples"))
def _left(
    truth: Float[Arr, "q 2"],
    inside: Bool[Arr, "k q"],
    times: Float[Arr, " h"],
    subject: Int[Arr, " q"],
    key: Key[Array, ""],
    subjects: int,
    resamples: int,
) -> Found:
    """Kaplan and Meier's estimate of each group at each horizon; NaN for an empty group."""
    survival = truths(truth)

    def score(counts: Float[Array, "c n"]) -> Float[Array, "c k h"]:
        def one(weight: Float[Array, " q"]) -> Float[Array, " h"]:
            return jnp.where(weight.sum() > 0, kaplan_meier(survival, weight).at(jnp.asarray(times)), jnp.nan)

        return jax.vmap(jax.vmap(one))(counts[:, None, jnp.asarray(subject)] * jnp.asarray(inside))

    return resampled(score, subjects, resamples, key, inside.size)


def _times(one: Outcomes) -> Float[np.ndarray, " h"]:
    """The horizons of an event."""
    assert isinstance(one.target, Event)  # nothing else is forecast as survival
    return np.array(one.target.horizons)


def _shares(axes: Axes) -> None:
    axes.set_ylim(-0.04, 1.04)
    axes.set_yticks(np.linspace(0, 1, 6), [f"{y:.0%}" for y in np.linspace(0, 1, 6)])
