"""Correctors of forecasts, conformal intervals among them, each fitted on subjects set aside."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import optimize
from scipy.special import ndtri

from framework.configurable import configurable
from framework.errors import UserError
from framework.scores import LEAST_PROBABILITY, cross_entropy
from framework.types import LEVELS, Arr

Params = Mapping[str, Float[Arr, "..."]]
Z = ndtri(LEVELS)
FARTHEST = 4.0  # how far out a truth counts at most, in normal quantiles: there is no telling how far it is
HALVES = range(len(LEVELS) // 2)  # the central intervals, the widest first


@configurable("calibrator")
class Calibrator(ABC):
    """Map from a forecaster's answer about a target to a calibrated one; a subject counts once, as one forecast."""

    of_classes: ClassVar[bool]

    @abstractmethod
    def fit(
        self, forecast: Float[np.ndarray, "n p"], truth: Float[np.ndarray, " n"], subject: Int[np.ndarray, " n"]
    ) -> Params:
        """From n forecasts, their truths and whose they are."""

    @abstractmethod
    def apply(self, params: Params, forecast: Float[Arr, "b q p"]) -> Float[Array, "b q p"]: ...


@dataclass(frozen=True)
class Temperature(Calibrator):
    """Probabilities to one power, the same for all classes, by least log loss (Guo et al. 2017): ranks stay."""

    of_classes = True

    def fit(
        self, forecast: Float[np.ndarray, "n p"], truth: Float[np.ndarray, " n"], subject: Int[np.ndarray, " n"]
    ) -> Params:
        logs, weight = np.log(np.maximum(forecast, LEAST_PROBABILITY)), subject_weights(subject)

        def loss(log_power: float) -> float:
            scaled = np.exp(log_power) * logs
            losses = cross_entropy(scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True), truth)
            return float(np.average(losses, weights=weight))

        found = optimize.minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-6})
        return {"power": np.array(np.exp(found.x))}

    def apply(self, params: Params, forecast: Float[Arr, "b q p"]) -> Float[Array, "b q p"]:
        return jax.nn.softmax(params["power"] * jnp.log(jnp.maximum(forecast, LEAST_PROBABILITY)), axis=-1)


@dataclass(frozen=True)
class Isotonic(Calibrator):
    """Each class's probability by the rising steps nearest to what came, joined by lines, then made to sum to one.

    Zadrozny & Elkan 2002. Where all come out as 0 they are left as they were.
    """

    of_classes = True

    def fit(
        self, forecast: Float[np.ndarray, "n p"], truth: Float[np.ndarray, " n"], subject: Int[np.ndarray, " n"]
    ) -> Params:
        params: dict[str, Float[np.ndarray, " u"]] = {}
        weight = subject_weights(subject)
        for level in range(forecast.shape[1]):
            said, place = np.unique(forecast[:, level], return_inverse=True)
            count = np.bincount(place, weight)
            share = np.bincount(place, weight * (truth == level)) / count
            steps = optimize.isotonic_regression(share, weights=count).x
            params |= {f"said_{level}": said, f"came_{level}": steps}
        return params

    def apply(self, params: Params, forecast: Float[Arr, "b q p"]) -> Float[Array, "b q p"]:
        forecast = jnp.asarray(forecast)
        each = [
            jnp.interp(forecast[..., level], jnp.asarray(params[f"said_{level}"]), jnp.asarray(params[f"came_{level}"]))
            for level in range(forecast.shape[-1])
        ]
        whole = jnp.stack(each, axis=-1)
        total = whole.sum(axis=-1, keepdims=True)
        return jnp.where(total > 0, whole / jnp.where(total > 0, total, 1), forecast)


@dataclass(frozen=True)
class Recalibration(Calibrator):
    """Quantiles at the levels below which that share of outcomes was observed (Kuleshov et al. 2018).

    Between and beyond the levels given, quantiles are linear in the normal quantile of their level.
    """

    of_classes = False

    def fit(
        self, forecast: Float[np.ndarray, "n p"], truth: Float[np.ndarray, " n"], subject: Int[np.ndarray, " n"]
    ) -> Params:
        piece = (truth[:, None] > forecast[:, 1:-1]).sum(axis=1)
        low, high = (np.take_along_axis(forecast, piece[:, None] + step, 1)[:, 0] for step in (0, 1))
        width = np.where(high > low, high - low, 1)
        along = np.where(high > low, (truth - low) / width, 0.5 + 1e9 * np.sign(truth - low))
        place = np.clip(Z[piece] + along * (Z[piece + 1] - Z[piece]), -FARTHEST, FARTHEST)
        weight = subject_weights(subject)
        return {"place": np.array([weighted_quantile(place, weight, level) for level in LEVELS])}

    def apply(self, params: Params, forecast: Float[Arr, "b q p"]) -> Float[Array, "b q p"]:
        place, z = jnp.asarray(params["place"]), jnp.asarray(Z)
        piece = (place[:, None] > z[1:-1]).sum(axis=1)
        low, high = jnp.asarray(forecast)[..., piece], jnp.asarray(forecast)[..., piece + 1]
        return low + (high - low) * (place - z[piece]) / (z[piece + 1] - z[piece])


@dataclass(frozen=True)
class Intervals(Calibrator):
    """Central intervals moved until they hold what they say, whatever the law of the errors.

    The guarantee, at least the nominal share on average, is of one visit of a new subject, each of the subject's alike:
    subjects are exchangeable, their visits are not. A subject set aside counts as one, its visits share that, and the
    new subject stands for one whose errors are infinite (Lee, Barber & Willett 2023).
    Raises UserError where too few subjects are set aside.
    """

    of_classes = False

    def fit(
        self, forecast: Float[np.ndarray, "n p"], truth: Float[np.ndarray, " n"], subject: Int[np.ndarray, " n"]
    ) -> Params:
        needed = [round(LEVELS[-1 - inner] - LEVELS[inner], 6) for inner in HALVES]
        found = [
            subject_quantile(self.miss(forecast, truth, i), subject, share)
            for i, share in zip(HALVES, needed, strict=True)
        ]
        return {"outwards": np.array(found)}

    def miss(
        self, forecast: Float[np.ndarray, "n p"], truth: Float[np.ndarray, " n"], inner: int
    ) -> Float[np.ndarray, " n"]:
        """How far outwards the ends `inner` from the outermost would have to move to meet each truth."""
        start = np.asarray(self.base(forecast))
        return np.maximum(start[:, inner] - truth, truth - start[:, -1 - inner])

    @abstractmethod
    def base(self, forecast: Arr) -> Arr:
        """The quantiles whose ends are moved."""

    def apply(self, params: Params, forecast: Float[Arr, "b q p"]) -> Float[Array, "b q p"]:
        out = jnp.asarray(params["outwards"])
        moves = jnp.concatenate([-out, jnp.zeros(1), out[::-1]])
        return jnp.sort(self.base(jnp.asarray(forecast)) + moves, axis=-1)


@dataclass(frozen=True)
class ConformalQuantiles(Intervals):
    """The forecaster's own intervals, all widened or narrowed alike (Romano, Patterson & Candès 2019)."""

    def base(self, forecast: Arr) -> Arr:
        return forecast


@dataclass(frozen=True)
class Conformal(Intervals):
    """Intervals of one width around the median: split-conformal prediction (Lei et al. 2018)."""

    def base(self, forecast: Arr) -> Arr:
        return forecast[..., len(LEVELS) // 2, None] + 0 * forecast


def subject_weights(subject: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The weight of each row, so that all subjects weigh 1."""
    _, place, rows = np.unique(subject, return_inverse=True, return_counts=True)
    return 1 / rows[place]


def weighted_quantile(values: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"], level: float) -> float:
    """The quantile of weighted values: each stands at the middle of the weight of its equals, lines join them."""
    distinct, place = np.unique(values, return_inverse=True)
    mass = np.bincount(place, weight)
    return float(np.interp(level, (np.cumsum(mass) - mass / 2) / weight.sum(), distinct))


def subject_quantile(score: Float[np.ndarray, " n"], subject: Int[np.ndarray, " n"], share: float) -> float:
    """The least score below which a new subject's stay with chance `share`, subjects counting alike."""
    _, place, visits = np.unique(subject, return_inverse=True, return_counts=True)
    if share * (len(visits) + 1) > len(visits) + 1e-9:
        least = int(np.ceil(share / (1 - share) - 1e-9))
        raise UserError(
            f"{len(visits)} subjects are set aside for conformal intervals; those of {share:.0%} need {least} or more: "
            "raise split.validation or model.fraction"
        )
    order = np.argsort(score, kind="stable")
    below = np.cumsum(1 / visits[place[order]]) / (len(visits) + 1)
    return float(score[order][np.searchsorted(below, share - 1e-9)])
