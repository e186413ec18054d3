"""Quantiles recalibrated by what was observed of subjects that a model was not fitted on, at each horizon."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.special import ndtri, stdtrit

from framework.types import LEVELS, MEDIAN, Arr

Z = ndtri(LEVELS)
PER_BIN = 10  # subjects, that a scale of errors is estimated from
MOST_BINS = 6
ROUNDING = 1e-3  # of their spread, by which values may differ that are the same
LEAST_WIDTH = 0.1  # of a forecast, in typical ones: narrower ones count as this wide


@dataclass(frozen=True)
class HeldOut:
    """Quantiles that a model forecast of subjects it was not fitted on, with their truths.

    `subject` says whose they are, `horizon` how many years after the origin they lie.
    """

    quantiles: Float[np.ndarray, "n l"]
    truth: Float[np.ndarray, " n"]
    subject: Int[np.ndarray, " n"]
    horizon: Float[np.ndarray, " n"]

    @staticmethod
    def joined(parts: Sequence["HeldOut"]) -> "HeldOut":
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return HeldOut(*(np.concatenate(column) for column in columns))

    @property
    def subjects(self) -> int:
        return len(np.unique(self.subject))


@dataclass(frozen=True)
class HorizonCalibration:
    """A forecast's half-widths above and below its median, scaled to what errors at its horizon were.

    An error counts in units of the forecast's own half-width on its side (never less than `narrowest`), over a scale
    that is piecewise linear in the horizon, with knots at `horizons` (years): locally weighted conformal prediction
    (Lei et al. 2018, Section 5.2). `steps` are the quantiles of these errors at `LEVELS`: the new quantiles lie so many
    units from the old median. Every held-out subject weighs the same, however many rows it has.
    """

    horizons: Sequence[float]
    scales: Sequence[float]
    steps: Sequence[float]
    narrowest: float
    subjects: int

    @staticmethod
    def fit(found: HeldOut) -> "HorizonCalibration":
        """The calibration of two held-out subjects or more.

        Scales that an error is measured in leave its own subject out, so that the noise of estimating them widens the
        intervals as it should.
        """
        _, subject, rows = np.unique(found.subject, return_inverse=True, return_counts=True)
        weight = 1 / rows[subject]
        error = found.truth - found.quantiles[:, MEDIAN]
        up, down = _half_widths(found.quantiles)
        typical = _weighted_quantile((up + down) / 2, weight, 0.5)
        narrowest = float(LEAST_WIDTH * typical) or float(np.sqrt(np.average(error**2, weights=weight)))
        if narrowest == 0:  # forecasts without width or error: there is nothing to scale
            return HorizonCalibration([0.0], [1.0], [0.0] * len(LEVELS), 0.0, len(rows))
        error = error / np.maximum(np.where(error > 0, up, down), narrowest)
        bins = _bins(found.horizon, subject, weight, len(rows))
        knots = np.array(
            [_weighted_quantile(found.horizon[bins == k], weight[bins == k], 0.5) for k in np.unique(bins)]
        )
        scales, without_own = _scales(np.abs(error), bins, subject, len(rows))
        longest = float(found.horizon.max())
        knots, scales, without_own = _up_to(longest, knots, scales, without_own)
        own = _between(found.horizon, knots, without_own[subject])
        scaled = error / own
        return HorizonCalibration(
            knots.tolist(), scales.tolist(), _steps(scaled, subject, weight, len(rows)), narrowest, len(rows)
        )

    def apply(self, quantiles: Float[Arr, "b q l"], horizon: Float[Arr, "b q"]) -> Float[Array, "b q l"]:
        """The calibrated quantiles; they ascend because the steps do."""
        forecast = jnp.asarray(quantiles)
        up, down = (jnp.maximum(side, self.narrowest)[..., None] for side in _half_widths(forecast))
        scale = jnp.interp(jnp.asarray(horizon), jnp.asarray(self.horizons), jnp.asarray(self.scales))[..., None]
        steps = jnp.asarray(self.steps)
        return forecast[..., MEDIAN, None] + steps * scale * jnp.where(steps > 0, up, down)

    def facts(self) -> dict:
        return {name: list(x) if isinstance(x, Sequence) else x for name, x in vars(self).items()}

    @staticmethod
    def of(facts: Mapping) -> "HorizonCalibration":
        return HorizonCalibration(**facts)


def joined(parts: Sequence[Mapping[str, HeldOut]]) -> dict[str, HeldOut]:
    """Join forecasts of several fits for subjects they were not fitted on, target by target."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: HeldOut.joined([part[name] for part in parts if name in part]) for name in names}


def _half_widths(quantiles: Any) -> tuple[Any, Any]:
    """From the median to the outermost quantiles, in standard deviations of a normal so wide."""
    middle = quantiles[..., MEDIAN]
    return (quantiles[..., -1] - middle) / Z[-1], (middle - quantiles[..., 0]) / Z[-1]


def _bins(
    horizon: Float[np.ndarray, " n"], subject: Int[np.ndarray, " n"], weight: Float[np.ndarray, " n"], subjects: int
) -> Int[np.ndarray, " n"]:
    """Rows by horizon, in bins of about equal weight of subjects; as many as have `PER_BIN` subjects each."""
    for count in range(min(MOST_BINS, max(1, subjects // PER_BIN)), 1, -1):
        cuts = np.unique([_weighted_quantile(horizon, weight, k / count) for k in range(1, count)])
        bins = np.searchsorted(cuts, horizon, side="left")
        each = [len(np.unique(subject[bins == k])) for k in range(len(cuts) + 1)]
        if min(each) >= PER_BIN:
            return bins
    return np.zeros(len(horizon), int)


def _scales(
    size: Float[np.ndarray, " n"], bins: Int[np.ndarray, " n"], subject: Int[np.ndarray, " n"], subjects: int
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "s k"]]:
    """The mean size of errors in each bin, subjects weighing the same there, and the same without each subject."""
    whole, without = [], []
    for k in range(bins.max() + 1):
        here = bins == k
        rows = np.bincount(subject[here], minlength=subjects)
        own = np.bincount(subject[here], size[here], minlength=subjects) / np.maximum(rows, 1)
        there = rows > 0
        whole.append(own[there].mean())
        without.append((own[there].sum() - own) / np.maximum(there.sum() - there, 1))
    scales, without_own = np.array(whole), np.array(without).T
    least = 0.05 * scales.mean() or 1.0  # where all errors of a bin are 0
    return np.maximum(scales, least), np.maximum(without_own, least)


def _up_to(
    longest: float, knots: np.ndarray, scales: np.ndarray, without_own: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A last knot at the longest horizon, on the line through the two before it where that rises."""
    if len(knots) < 2 or longest <= knots[-1]:
        return knots, scales, without_own

    def end(values: np.ndarray) -> np.ndarray:
        slope = np.maximum(values[..., -1] - values[..., -2], 0) / (knots[-1] - knots[-2])
        return (values[..., -1] + slope * (longest - knots[-1]))[..., None]

    return (
        np.append(knots, longest),
        np.concatenate([scales, end(scales)], -1),
        np.concatenate([without_own, end(without_own)], -1),
    )


def _between(at: Float[np.ndarray, " n"], knots: Float[np.ndarray, " k"], values: Float[np.ndarray, "n k"]):
    """Row by row the line through the knots at `at`, level beyond them."""
    if len(knots) == 1:
        return values[:, 0]
    right = np.clip(np.searchsorted(knots, at), 1, len(knots) - 1)
    share = np.clip((at - knots[right - 1]) / (knots[right] - knots[right - 1]), 0, 1)
    low, high = (np.take_along_axis(values, place[:, None], 1)[:, 0] for place in (right - 1, right))
    return low + share * (high - low)


def _steps(
    scaled: Float[np.ndarray, " n"], subject: Int[np.ndarray, " n"], weight: Float[np.ndarray, " n"], subjects: int
) -> list[float]:
    """The quantiles of scaled errors for a new subject.

    Where fewer subjects are held out than a level needs (19 for 5% and 95%) it is that of a Student t distribution with
    their standard deviation. The median moves as far as it is distinguishable from 0: by the share of its square
    that its sampling error does not explain.
    """
    spread = float(np.sqrt(np.average(scaled**2, weights=weight)))
    found = []
    for level in LEVELS:
        if level == 0.5:
            low, high = (side * _weighted_quantile(side * scaled, weight, level) for side in (1, -1))
            found.append((low + high) / 2)
        elif min(level, 1 - level) * (subjects + 1) >= 1:
            side = 1 if level > 0.5 else -1
            found.append(side * _tail(side * scaled, subject, weight, subjects, max(level, 1 - level)))
        else:
            found.append(float(stdtrit(subjects - 1, level)) * spread * np.sqrt(1 + 1 / subjects))
    quartile = (found[MEDIAN + 1] - found[MEDIAN - 1]) / 2 / Z[MEDIAN + 1]
    error = np.sqrt(np.pi / 2 / subjects) * quartile  # of a median, as of a normal's
    if found[MEDIAN] != 0:
        found[MEDIAN] *= max(0.0, 1 - (error / found[MEDIAN]) ** 2)
    below, above = np.array(found[:MEDIAN]), np.array(found[MEDIAN + 1 :])
    return [*np.minimum(below, found[MEDIAN]).tolist(), found[MEDIAN], *np.maximum(above, found[MEDIAN]).tolist()]


def _tail(
    values: Float[np.ndarray, " n"],
    subject: Int[np.ndarray, " n"],
    weight: Float[np.ndarray, " n"],
    subjects: int,
    level: float,
) -> float:
    """The upper quantile below which a new subject's value lies with chance `level`, on average over samples.

    Of n independent values the i-th has i / (n + 1) below it. Rows of a subject are not independent: n is how many
    independent ones would tell the share above the quantile as well as the subjects' own shares do.
    """
    first = _weighted_quantile(values, weight, level)
    above = np.bincount(subject, (values > first + ROUNDING * values.std()) * weight, minlength=subjects)
    variance = above.var(ddof=1)
    effective = max(1.0, above.mean() * (1 - above.mean()) / variance) * subjects if variance > 0 else np.inf
    return _weighted_quantile(values, weight, min(1.0, level * (1 + 1 / effective)))


def _weighted_quantile(values: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"], level: float) -> float:
    """The least value that has this share of the weight at or below it."""
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weight[order])
    place = np.searchsorted(share, (level - 1e-9) * share[-1])
    return float(values[order][min(place, len(values) - 1)])
