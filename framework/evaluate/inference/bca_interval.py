"""BCa intervals and p-values from resamples: what values of a score the subjects tested do not rule out."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri, stdtr, stdtrit

TAIL = 10  # resamples; a share estimated from fewer is extrapolated
FURTHEST = 9  # normal quantile


@dataclass(frozen=True)
class Spread:
    """A score with its value in resamples of the n subjects and with each of them left out; undefined ones are out.

    Percentile intervals are too narrow for few subjects and off centre for skewed scores. BCa corrects for bias and for
    a spread that changes with the value (Efron 1987). For the few there are t quantiles and n/(n - 1) (Hesterberg 2015,
    4.2), with 2n/(k - 1) degrees of freedom where the kurtosis k of what each subject adds leaves the spread itself
    unsure. A score folded at a bound (`smooth` False) keeps percentiles: its bias is none that resamples could show.
    Every interval reaches to its estimate, which may lie beyond all resamples (a distance of 0 from the ideal).
    The ends lie `widened` times as far from the estimate as the bootstrap has them (`folds.widening`).
    """

    value: float
    draws: Float[np.ndarray, " b"]
    without: Float[np.ndarray, " n"]
    smooth: bool = True
    widened: float = 1.0
    bounds: tuple[float, float] = (-math.inf, math.inf)

    @staticmethod
    def of(
        value: float,
        draws: Float[np.ndarray, " b"],
        without: Float[np.ndarray, " n"],
        smooth: bool = True,
        widened: float = 1.0,
        bounds: tuple[float, float] = (-math.inf, math.inf),
    ) -> "Spread":
        """Less the resamples in which the score is undefined."""
        return Spread(float(value), draws[~np.isnan(draws)], without[~np.isnan(without)], smooth, widened, bounds)

    def interval(self, coverage: float = 0.95) -> tuple[float, float]:
        """Its ends; NaN where the score is never defined."""
        if not self.draws.size or np.isnan(self.value):
            return float("nan"), float("nan")
        z = self._far(float(ndtri((1 + coverage) / 2))) * np.array([-1, 1])
        if self.smooth:
            moved = self._bias + z
            # an end that acceleration would take beyond infinity is as far out as any
            z = np.clip(self._bias + moved / np.maximum(1 - self._acceleration * moved, 1e-3), -FURTHEST, FURTHEST)
        ends = self.value + self.widened * (np.quantile(self.draws, ndtr(z)) - self.value)
        low, high = np.clip(ends, *self.bounds)
        return min(float(low), self.value), max(float(high), self.value)

    def p_value(self, null: float = 0.0) -> float:
        """The p-value of the score being `null`: one less the coverage of the interval that just reaches it."""
        if not self.draws.size or np.isnan(self.value):
            return float("nan")
        place = self._place(self.value + (null - self.value) / self.widened)
        if not self.smooth:
            return self._two_sided(place)
        w = place - self._bias
        return self._two_sided(w / max(1 + self._acceleration * w, 1e-3) - self._bias)

    def _place(self, value: float) -> float:
        """The normal quantile of the share of resamples below a value, equals counting half.

        Beyond all but `TAIL` of them it is extrapolated from how far those are from the middle: the number of
        resamples must not decide how small a p-value can be.
        """
        below = np.sum(self.draws < value) + np.sum(self.draws == value) / 2
        count = len(self.draws)
        counted = float(ndtri((below + 0.5) / (count + 1)))
        if TAIL <= below <= count - TAIL or count < 10 * TAIL:
            return counted
        middle, reach = self._reach(value > np.median(self.draws))
        if reach == 0:
            return counted
        return float(np.clip(self._tail_quantile * (value - middle) / reach, -FURTHEST, FURTHEST))

    @property
    def _tail_quantile(self) -> float:
        """The normal quantile that all but `TAIL` resamples lie within, on each side."""
        return float(-ndtri((TAIL - 0.5) / (len(self.draws) + 1)))

    def _reach(self, above: bool | np.bool_) -> tuple[float, float]:
        """The middle of the resamples, and how far beyond it the `TAIL`th from an end lies."""
        count, middle = len(self.draws), float(np.median(self.draws))
        return middle, abs(
            float(np.partition(self.draws, (TAIL - 1, count - TAIL))[-TAIL if above else TAIL - 1]) - middle
        )

    @cached_property
    def _bias(self) -> float:
        return self._place(self.value)

    @cached_property
    def _away(self) -> Float[np.ndarray, " n"]:
        """The contribution of each subject, up to a factor; zeros where no subject contributes."""
        return self.without.mean() - self.without if self.without.size else np.zeros(2)

    @cached_property
    def _acceleration(self) -> float:
        square = np.sum(self._away**2)
        return float(np.sum(self._away**3) / (6 * square**1.5)) if square > 0 else 0.0

    @cached_property
    def _few(self) -> tuple[float, float]:
        """Degrees of freedom, and how much too small resamples of few subjects who are independent make a spread."""
        n, square = max(2, len(self.without)), np.sum(self._away**2)
        kurtosis = n * np.sum(self._away**4) / square**2 if square > 0 else 3.0
        degrees = 2 * n / max(kurtosis - 1, 1e-9) - 1
        return float(np.clip(degrees, min(2, n - 1), n - 1)), float(np.sqrt(n / (n - 1)))

    def _far(self, z: float) -> float:
        degrees, scale = self._few
        return float(stdtrit(degrees, ndtr(z)) * scale)

    def _two_sided(self, z: float) -> float:
        degrees, scale = self._few
        return float(2 * stdtr(degrees, -abs(z) / scale))
