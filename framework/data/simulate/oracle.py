"""The best forecast there can be: the posterior predictive under the generator itself, from a subject's history.

Given a subject's onset and rate the logarithms of ventricular and cortical volume are linear in Gaussian unknowns
(baseline, ageing, effect of the stage), so these are integrated out exactly, visit by visit; onset and rate are
covered by a quasi-random sample of the population, weighted by how well each explains the history.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.special import log_ndtr, logsumexp, ndtri

from framework.data.simulate.course import SEXES, Parameters, cognition_law, logistic, logit_thresholds

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
DRAWS = 8192  # from the weighted sample, for the quantiles
Samples = Float[np.ndarray, "s"]


@dataclass(frozen=True)
class Predictive:
    """The measured ventricles (mL) at each query time: quantiles at the levels asked for, and the mean."""

    quantiles: Float[np.ndarray, "q l"]
    mean: Float[np.ndarray, "q"]


@dataclass(frozen=True)
class Line:
    """For every sample the Gaussian belief in (intercept, ageing, effect of stage) of one volume's logarithm."""

    mean: Float[np.ndarray, "s 3"]
    covariance: Float[np.ndarray, "s 3 3"]
    noise: float

    def predict(self, design: Float[np.ndarray, "s 3"]) -> tuple[Samples, Samples, Float[np.ndarray, "s 3"]]:
        """Mean and variance of a measurement, and its covariance with the unknowns."""
        shared = np.einsum("sij,sj->si", self.covariance, design)
        return (self.mean * design).sum(1), (shared * design).sum(1) + self.noise**2, shared

    def update(self, design: Float[np.ndarray, "s 3"], measured: float) -> tuple["Line", Samples]:
        """The belief after a measurement, and the logarithm of how likely it was."""
        mean, variance, shared = self.predict(design)
        gain = shared / variance[:, None]
        line = Line(
            self.mean + gain * (measured - mean)[:, None],
            self.covariance - gain[:, :, None] * shared[:, None, :],
            self.noise,
        )
        return line, -0.5 * ((measured - mean) ** 2 / variance + np.log(2 * np.pi * variance))


@dataclass(frozen=True)
class Belief:
    """Belief about one subject given its visits so far."""

    p: Parameters
    age: float  # at the first visit
    onset: Samples
    rate: Samples
    log_weight: Samples
    ventricles: Line
    cortex: Line

    def _design(self, time: float) -> Float[np.ndarray, "s 3"]:
        stage = logistic(self.rate * (time - self.onset))
        return np.stack([np.ones_like(stage), np.full_like(stage, self.age + time - 70), stage], 1)

    def seen(
        self,
        time: float,
        ventricles: float = np.nan,
        cognition: float = np.nan,
        diagnosis: float = np.nan,
        cortex: float = np.nan,
    ) -> "Belief":
        """The belief after one visit; NaN for what was not measured, `diagnosis` an index into CN, MCI, AD."""
        design, weight, lines = (
            self._design(time),
            self.log_weight,
            {"ventricles": self.ventricles, "cortex": self.cortex},
        )
        for name, measured in (("ventricles", ventricles), ("cortex", cortex)):
            if not np.isnan(measured):
                lines[name], likely = lines[name].update(design, np.log(measured))
                weight = weight + likely
        if not np.isnan(cognition):
            weight = weight + _log_cognition(cognition, design[:, 2], self.p)
        if not np.isnan(diagnosis):
            weight = weight + _log_diagnosis(int(diagnosis), self.rate * (time - self.onset), self.p)
        return replace(self, log_weight=weight - logsumexp(weight), **lines)

    def forecast(self, query: Float[np.ndarray, "q"], levels: tuple[float, ...] = LEVELS) -> Predictive:
        """The measured ventricles at the query times."""
        cumulated = np.cumsum(np.exp(self.log_weight))
        chosen = np.searchsorted(cumulated / cumulated[-1], (np.arange(DRAWS) + 0.5) / DRAWS)
        # A fixed low-discrepancy sequence of normals keeps the answer the same at every call.
        normal = ndtri((np.arange(DRAWS) * 0.6180339887498949 + 0.5) % 1.0)
        volumes = []
        for time in np.asarray(query, float):
            mean, variance, _ = self.ventricles.predict(self._design(time))
            volumes.append(np.exp(mean[chosen] + np.sqrt(variance[chosen]) * normal))
        drawn = np.array(volumes).reshape(len(volumes), DRAWS)
        return Predictive(np.quantile(drawn, levels, axis=1).T, drawn.mean(1))


def prior(
    age: float,
    sex: str | None = None,
    icv: float | None = None,
    p: Parameters | None = None,
    samples: int = 32768,
    seed: int = 0,
) -> Belief:
    """The belief before the first visit, from age (years), sex and measured intracranial volume (mL) if known."""
    p = p or Parameters()
    healthy, entry, rate = _even(samples, seed)
    rate = p.rate[0] * np.exp(p.rate[1] * ndtri(rate))
    off_course = p.healthy_onset[0] + p.healthy_onset[1] * ndtri(entry)
    on_course = -(p.entry[0] + (p.entry[1] - p.entry[0]) * entry) / rate
    onset = np.where(healthy < p.healthy, off_course, on_course)
    log_icv, unsure = _log_icv(sex, icv, p)
    ventricles = [
        (np.log(p.ventricles[0]) + log_icv - np.log(np.mean(p.icv)), np.hypot(p.ventricles[1], unsure)),
        p.ventricles_ageing,
        p.widening,
    ]
    share = np.log(p.template_cortex / p.template_icv)
    cortex = [
        (share + log_icv - p.cortex[0], np.sqrt(p.cortex[1] ** 2 + unsure**2 + p.warp_cortex**2)),
        (-p.cortex_ageing[0], p.cortex_ageing[1]),
        (-p.thinning[0], p.thinning[1]),
    ]
    weight = np.full(samples, -np.log(samples))
    lines = _line(ventricles, p.ventricles_error, samples), _line(cortex, p.cortex_error, samples)
    return Belief(p, age, onset, rate, weight, *lines)


def forecast_ventricles(
    times: Float[np.ndarray, "t"],
    ventricles: Float[np.ndarray, "t"],
    cognition: Float[np.ndarray, "t"],
    diagnosis: Float[np.ndarray, "t"],
    query: Float[np.ndarray, "q"],
    age: float,
    sex: str | None = None,
    icv: float | None = None,
    cortex: Float[np.ndarray, "t"] | None = None,
    levels: tuple[float, ...] = LEVELS,
    p: Parameters | None = None,
    samples: int = 32768,
    seed: int = 0,
) -> Predictive:
    """The posterior predictive of the measured ventricles at the query times, from one subject's visits so far.

    Times are years since the first visit and `age` the age there; NaN marks what was not measured. `cortex` is
    optional: with it this is the ceiling for models that see the scans, without it for volumes and tests alone.
    """
    belief = prior(age, sex, icv, p, samples, seed)
    cortex = np.full(len(times), np.nan) if cortex is None else cortex
    for row in zip(times, ventricles, cognition, diagnosis, cortex, strict=True):
        belief = belief.seen(*map(float, row))
    return belief.forecast(query, levels)


def _even(samples: int, seed: int) -> Float[np.ndarray, "3 s"]:
    """Points spread evenly over the unit cube: the additive recurrence with the powers of 1/g, g**4 = g + 1."""
    steps = 1.2207440846057596 ** -np.arange(1, 4)
    return (np.random.default_rng(seed).random(3)[:, None] + steps[:, None] * np.arange(samples)) % 1.0


def _line(priors: list[tuple[float, float]], noise: float, samples: int) -> Line:
    means, sds = np.array(priors).T
    return Line(np.tile(means, (samples, 1)), np.tile(np.diag(sds**2), (samples, 1, 1)), noise)


def _log_icv(sex: str | None, icv: float | None, p: Parameters) -> tuple[float, float]:
    """Mean and sd of the logarithm of the intracranial volume."""
    if icv is not None:
        return float(np.log(icv)), float(np.hypot(p.icv_error, p.warp_icv))
    if sex is not None:
        which = SEXES.index(sex)
        return float(np.log(p.icv[which])), p.icv_sd[which] / p.icv[which]
    women, men = p.icv
    between = np.sqrt(p.women * (1 - p.women)) * (men - women)
    mean = p.women * women + (1 - p.women) * men
    return float(np.log(mean)), float(np.hypot(between, np.mean(p.icv_sd)) / mean)


def _log_diagnosis(diagnosis: int, logit_stage: Samples, p: Parameters) -> Samples:
    edges = np.concatenate([[-np.inf], logit_thresholds(p), [np.inf]])
    high, low = ((edges[diagnosis + k] - logit_stage) / p.diagnosis_sd for k in (1, 0))
    return _log_between(low, high)


def _log_cognition(score: float, stage: Samples, p: Parameters) -> Samples:
    """Log-probability of a score under a rounded normal whose tails gather at 0 and 30."""
    mean, sd = cognition_law(stage, p)
    low = np.full_like(stage, -np.inf) if score <= 0 else (score - 0.5 - mean) / sd
    high = np.full_like(stage, np.inf) if score >= 30 else (score + 0.5 - mean) / sd
    return _log_between(low, high)


def _log_between(low: Samples, high: Samples) -> Samples:
    """log P(low < normal < high), from the tail where it is the more exact."""
    flip = low > 0
    low, high = np.where(flip, -high, low), np.where(flip, -low, high)
    return log_ndtr(high) + np.log1p(-np.minimum(np.exp(log_ndtr(low) - log_ndtr(high)), 1 - 1e-12))
