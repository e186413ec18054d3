"""The cohort `rhythm`: a disease that comes in waves, followed at 60 to 200 irregular visits, its truth kept.

The law is a linear stochastic differential equation, run at a pace of the subject's own. In the subject's time s, pace
times years, one cycle long, and about an equilibrium x* = level + response · dose:

    dx = v ds    dv = -(2π)² (x - x*) ds - 4π damping v ds + σ dB    dw = (x - w) / lag ds

The waves of activity x lose their phase within some two cycles; a marker w trails them. So what lies ahead follows from
what is filtered out of noisy, scattered measurements (symptoms and activity show x, the marker w), from how long the
gap is in the subject's own time, and from pace, level and response, which only a long history tells.

Visits come sooner, and tests are ordered more often, the faster the pace and the worse the symptoms last measured: gaps
and holes are informative, as in Che et al. 2018. A clinician starts and stops the dose by what the visit measured.
Whatever gaps, orders and doses depend on is pace or measured, so that a mixture of Kalman filters over the pace is the
exact forecast (`kalman`). No parameter comes from patients or was set by how any forecaster did.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float
from scipy.linalg import solve_continuous_lyapunov

from framework.data.cohort.schema import Schema, Subject, Variable, Visit

MEASURES = ("symptoms", "activity", "marker")
SHOWS = np.array([0, 0, 2])  # which of (x, v, w) a measure shows
Numbers = Float[np.ndarray, "..."] | float


@dataclass(frozen=True)
class Parameters:
    """Every number of the law; lengths in years or cycles, values in points: waves have an sd of 1."""

    pace: tuple[float, float] = (2.5, 0.4)  # median cycles a year, sd of the logarithm
    damping: float = 0.1  # share of the critical one
    lag: float = 0.25  # cycles by which the marker trails
    level: float = 0.7  # sd between subjects
    response: tuple[float, float] = (-1.0, 0.5)  # to the dose: mean and sd between subjects
    noise: tuple[float, float, float] = (0.7, 0.3, 0.2)  # sd of each measure's error
    visits: tuple[int, int] = (60, 200)
    gap: tuple[float, float] = (12 / 365.25, 0.8)  # median years at median pace, sd of the logarithm
    sooner: tuple[float, float] = (0.5, 0.15)  # log gap lost a unit of log pace, a point of symptoms
    # log-odds that a measure is taken, and what log pace and a point of symptoms add to them
    orders: tuple[tuple[float, float, float], ...] = ((2.2, 0.0, 0.0), (0.0, 1.0, 0.5), (-1.0, 1.0, 0.5))
    starts: tuple[float, float] = (0.8, 0.6)  # from so many points on, with this chance a visit
    stops: tuple[float, float] = (-0.8, 0.3)
    flare: float = 1.0  # points of measured activity


@dataclass(frozen=True)
class Law:
    """How (x, v, w) - (x*, 0, x*) goes on over s cycles: by `passage` Φ, gaining a covariance S - Φ S Φ'."""

    p: Parameters

    @cached_property
    def drift(self) -> Float[np.ndarray, "3 3"]:
        turn = 2 * np.pi
        return np.array(
            [[0, 1, 0], [-(turn**2), -2 * turn * self.p.damping, 0], [1 / self.p.lag, 0, -1 / self.p.lag]], float
        )

    @cached_property
    def spread(self) -> Float[np.ndarray, "3 3"]:
        """The stationary covariance S, scaled so that x has variance 1."""
        found = solve_continuous_lyapunov(self.drift, -np.diag([0.0, 1.0, 0.0]))
        return found / found[0, 0]

    @cached_property
    def _modes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rates, modes = np.linalg.eig(self.drift)
        return rates, modes, np.linalg.inv(modes)

    def passage(self, cycles: Numbers) -> Float[np.ndarray, "... 3 3"]:
        """Φ = exp(drift · cycles)."""
        rates, modes, inverse = self._modes
        return np.real((modes * np.exp(rates * np.asarray(cycles)[..., None, None])) @ inverse)

    def gained(self, passage: Float[np.ndarray, "... 3 3"]) -> Float[np.ndarray, "... 3 3"]:
        return self.spread - passage @ self.spread @ np.swapaxes(passage, -1, -2)


@dataclass(frozen=True)
class Course:
    """One subject's series: `values` of symptoms, activity, marker and dose, and the truth behind them."""

    times: Float[np.ndarray, " t"]
    values: Float[np.ndarray, "t 4"]
    observed: Bool[np.ndarray, "t 4"]
    state: Float[np.ndarray, "t 3"]  # x, v (points a cycle), w
    pace: float
    level: float
    response: float


def log_gap(pace: Numbers, symptoms: Numbers, p: Parameters) -> Numbers:
    """The mean of the logarithm of the years to the next visit, given the symptoms last measured."""
    return np.log(p.gap[0]) - p.sooner[0] * np.log(pace / p.pace[0]) - p.sooner[1] * np.clip(symptoms, -2, 2)


def ordered(pace: Numbers, symptoms: Numbers, p: Parameters) -> Float[np.ndarray, "... 3"]:
    """The chance that each measure is taken at a visit, given the symptoms last measured before it."""
    often, by_pace, by_symptoms = np.array(p.orders).T
    relative, felt = np.broadcast_arrays(np.log(pace / p.pace[0]), np.clip(symptoms, -2, 2))
    return 1 / (1 + np.exp(-(often + by_pace * relative[..., None] + by_symptoms * felt[..., None])))


def simulate(seed: int, index: int, p: Parameters | None = None) -> Course:
    """Subject `index`, which depends on (seed, index) alone."""
    p = p or Parameters()
    rng, law = np.random.default_rng((seed, index)), Law(p)
    pace = float(p.pace[0] * np.exp(p.pace[1] * rng.normal()))
    level, response = float(p.level * rng.normal()), float(rng.normal(*p.response))
    count = int(rng.integers(p.visits[0], p.visits[1] + 1))
    state = np.array([level, 0, level]) + _root(law.spread) @ rng.normal(size=3)
    time, felt, dose = 0.0, 0.0, 0.0
    rows = []
    for visit in range(count):
        if visit:
            gap = float(np.exp(log_gap(pace, felt, p) + p.gap[1] * rng.normal()))
            passage, rest = law.passage(pace * gap), (level + response * dose) * np.array([1, 0, 1])
            state = rest + passage @ (state - rest) + _root(law.gained(passage)) @ rng.normal(size=3)
            time += gap
        taken = rng.random(3) < ordered(pace, felt, p)
        measured = state[SHOWS] + np.array(p.noise) * rng.normal(size=3)
        felt = float(measured[0]) if taken[0] else felt
        dose = _dosed(dose, measured, taken, rng, p)
        rows.append((time, [*measured, dose], [*taken, True], state))
    times, values, observed, states = map(np.array, zip(*rows, strict=True))
    return Course(times, np.where(observed, values, 0), observed, states, pace, level, response)


def _dosed(dose: float, measured: np.ndarray, taken: np.ndarray, rng: np.random.Generator, p: Parameters) -> float:
    """The dose from a visit on: decided by its activity, failing that by its symptoms."""
    chance, found = rng.random(), measured[1] if taken[1] else measured[0]
    if not taken[:2].any():
        return dose
    if not dose:
        return float(found > p.starts[0] and chance < p.starts[1])
    return float(not (found < p.stops[0] and chance < p.stops[1]))


def _root(covariance: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """A matrix whose product with its transpose is the covariance; over short gaps that is all but singular."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0))


def rhythm_schema() -> Schema:
    """The schema of the cohort."""
    return Schema(
        variables=(
            Variable("symptoms", ("input", "target"), "points", description="activity as felt: noisy, at most visits"),
            Variable("activity", ("input", "target"), "points", description="activity as a test shows it"),
            Variable("marker", ("input", "target"), "points", description="what trails activity, as a test shows it"),
            Variable("dose", ("input",), description="in force from this visit to the next"),
            Variable("flare", ("target",), levels=("no", "yes"), positive_from="yes", description="activity over 1"),
            Variable("true_activity", ("hindsight",), "points"),
        ),
        static=(
            Variable("pace", ("hindsight",), "1/year", description="cycles"),
            Variable("level", ("hindsight",), "points", description="about which activity swings without the dose"),
            Variable("response", ("hindsight",), "points", description="what the dose adds to the level"),
        ),
    )


def rhythm(subjects: int, seed: int, p: Parameters | None = None) -> Iterator[Subject]:
    """The subjects in order; a cohort of 60 is the beginning of one of 200."""
    p = p or Parameters()
    for index in range(subjects):
        course = simulate(seed, index, p)
        visits = tuple(_visit(course, number, p) for number in range(len(course.times)))
        static = {"pace": course.pace, "level": course.level, "response": course.response}
        yield Subject(f"sim{index:04d}", visits, static)


def _visit(course: Course, number: int, p: Parameters) -> Visit:
    values, observed = course.values[number], course.observed[number]
    values_of: dict[str, float | str | None] = {
        name: float(value) for name, value, taken in zip((*MEASURES, "dose"), values, observed, strict=True) if taken
    }
    if "activity" in values_of:
        values_of["flare"] = "yes" if values[1] > p.flare else "no"
    values_of["true_activity"] = float(course.state[number, 0])
    return Visit(f"v{number:03d}", float(course.times[number]), values_of)
