"""The likelihood, what is foretold and survival against their plain definitions in float64; and that a fit finds them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit, logsumexp
from scipy.stats import multivariate_normal, norm

from framework.baselines.mixed import progression
from framework.baselines.mixed.progression import Course, Ends, Levels, Progression

NODES = 7
GRID = np.linspace(-progression.REACH, progression.REACH, NODES)
PRIOR = norm.pdf(GRID) / norm.pdf(GRID).sum()
SINGLE = Progression(
    start=jnp.array([0.4]),
    pace=jnp.array([-0.3]),
    tempo=jnp.array([-0.2, -0.7]),
    fixed=jnp.array([[0.1, -0.2, 0.3], [0.0, 0.4, 0.1]]),
    root=jnp.array([[[1.2, 0.0], [0.3, 0.5]], [[0.7, 0.0], [-0.2, 0.4]]]),
    log_noise=jnp.array([-0.5, -1.0]),
    noise_slope=jnp.array([0.3, -0.2]),
    curve=jnp.array([[0.9, 0.2, 0.5], [-0.6, -0.8, -0.3]]),
    levels={
        "grade": Levels(jnp.array([-0.5, 0.2]), jnp.array([1.5]), jnp.array([[0.6]])),
        "kind": Levels(jnp.array([0.3, -0.4]), jnp.array([0.8, -1.1]), jnp.array([[0.2], [-0.5]])),
    },
    hazard=jnp.array([[-1.0, 0.7]]),
)
MODEL = jax.tree.map(lambda part: np.asarray(part, np.float64), SINGLE)
LEVELS = (("grade", 3, True), ("kind", 3, False))


def courses(subjects: int = 4, visits: int = 3, seed: int = 0) -> tuple[Course, Ends]:
    rng = np.random.default_rng(seed)
    time = np.cumsum(rng.uniform(0.3, 1, (subjects, visits)), 1) - 0.3
    z = np.stack([np.ones_like(time), time], -1)
    x = np.concatenate([z, np.broadcast_to(rng.normal(size=(subjects, 1, 1)), (*time.shape, 1))], -1)
    shape = (*time.shape, 2)
    levels = {name: rng.integers(0, 3, time.shape) for name in MODEL.levels}
    told = {name: rng.random(time.shape) > 0.2 for name in MODEL.levels}
    course = Course(time, x, z, rng.normal(size=shape), rng.random(shape) > 0.2, levels, told)
    lo = rng.uniform(0, 1, (subjects, 1))
    hi = np.where(rng.random((subjects, 1)) > 0.5, lo + 0.7, np.inf)
    return course, Ends(np.full((subjects, 1), 0.4), lo, hi, np.ones((subjects, 1), bool))


def of(tree, subject: int):
    return jax.tree.map(lambda part: part[subject], tree)


def singles(tree):
    return jax.tree.map(lambda part: part.astype(np.float32) if part.dtype == np.float64 else part, tree)


def curve(k: int, s: float) -> float:
    slope, log_steep, place = MODEL.curve[k]
    steep = np.exp(log_steep)
    return 4 * slope / steep * (expit(steep * (s - place)) - expit(-steep * place))


def chances(name: str, s: float, x: np.ndarray) -> np.ndarray:
    levels = MODEL.levels[name]
    at = levels.gain * s + levels.weights @ x[-1:]
    if name == "kind":
        logits = np.concatenate([[0], levels.cut + at])
        return np.exp(logits - logsumexp(logits))
    below = expit(np.array([levels.cut[0], levels.cut[0] + np.log1p(np.exp(levels.cut[1]))]) - at)
    return np.diff(np.concatenate([[0], below, [1]]))


def gone(a: float, speed: float, since: float, until: float) -> float:
    """The hazard summed from one time to another, by quadrature."""
    h, g = MODEL.hazard[0]
    return quad(lambda t: np.exp(h + g * (a + speed * t)), since, until)[0]


def at_nodes(course: Course):
    """Each pair of shift and pace with its prior weight, and the likelihood of what was measured there."""
    first = course.x[0, -1:]
    for i, v in enumerate(GRID):
        for j, u in enumerate(GRID):
            a = float(MODEL.start @ first) + u
            speed = float(np.exp(MODEL.tempo[0] + MODEL.pace @ first + np.exp(MODEL.tempo[1]) * v))
            log = np.log(PRIOR[i] * PRIOR[j])
            for k in range(2):
                seen = course.seen[:, k]
                if seen.any():
                    mean, covariance = moments(k, course, a, speed, course.time, course.x, course.z)
                    log += multivariate_normal.logpdf(course.y[seen, k], mean[seen], covariance[np.ix_(seen, seen)])
            for name in MODEL.levels:
                for t in np.flatnonzero(course.levels_seen[name]):
                    told = chances(name, a + speed * course.time[t], course.x[t])
                    log += np.log(told[course.levels[name][t]])
            yield a, speed, log


def moments(k: int, course: Course, a: float, speed: float, time, x, z):
    mean = x @ MODEL.fixed[k] + np.array([curve(k, a + speed * t) for t in time])
    noise, louder = np.exp(2 * MODEL.log_noise[k]), np.exp(2 * MODEL.noise_slope[k] * (a + speed * time))
    return mean, noise * (np.diag(louder) + z @ MODEL.root[k] @ MODEL.root[k].T @ z.T)


@pytest.mark.parametrize("subject", range(4))
def test_the_likelihood_is_the_sum_over_the_grid(subject):
    course, ends = (of(part, subject) for part in courses())
    logs = []
    for a, speed, log in at_nodes(course):
        lo, hi = (float(end[0] + ends.since[0]) for end in (ends.lo, ends.hi))
        alive = np.exp(-gone(a, speed, ends.since[0], lo))
        logs.append(log + np.log(alive - (np.exp(-gone(a, speed, ends.since[0], hi)) if np.isfinite(hi) else 0)))
    ours = jax.jit(progression.log_likelihood, static_argnums=3)(SINGLE, *singles((course, ends)), NODES)
    np.testing.assert_allclose(ours, logsumexp(logs), rtol=2e-5)


def test_what_is_foretold_is_conditional_on_what_was_seen():
    course, _ = (of(part, 1) for part in courses())
    time, x, z = 2.5, np.array([1, 2.5, course.x[0, 2]]), np.array([1, 2.5])
    expected, levels, weights = [], [], []
    for a, speed, log in at_nodes(course):
        row, weights = [], [*weights, log]
        for k in range(2):
            seen = np.append(course.seen[:, k], True)
            both = (np.append(course.time, time), np.vstack([course.x, x]), np.vstack([course.z, z]))
            mean, covariance = moments(k, course, a, speed, *both)
            mean, covariance = mean[seen], covariance[np.ix_(seen, seen)]
            gain = np.linalg.solve(covariance[:-1, :-1], covariance[:-1, -1])
            rest = course.y[course.seen[:, k], k] - mean[:-1]
            row.append((mean[-1] + gain @ rest, covariance[-1, -1] - gain @ covariance[:-1, -1]))
        expected.append(row)
        levels.append([chances(name, a + speed * time, x) for name in MODEL.levels])
    weight = np.exp(np.array(weights) - logsumexp(weights))
    asked = (SINGLE, *singles((course, np.array(time), x, z)))
    ours = jax.jit(progression.predict, static_argnums=5)(*asked, NODES)
    np.testing.assert_allclose(ours.weight, weight, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(ours.mean.T, np.array(expected)[:, :, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.variance.T, np.array(expected)[:, :, 1], rtol=1e-4)
    for place, name in enumerate(MODEL.levels):
        np.testing.assert_allclose(ours.levels[name], weight @ [each[place] for each in levels], rtol=1e-4)


def test_survival_counts_that_the_event_had_not_come_by_the_origin():
    course, _ = (of(part, 2) for part in courses())
    origin, ahead = float(course.time[-1]), 1.3
    logs, lasts = [], []
    for a, speed, log in at_nodes(course):
        logs.append(log - gone(a, speed, 0, origin))
        lasts.append(np.exp(-gone(a, speed, origin, origin + ahead)))
    expected = np.exp(np.array(logs) - logsumexp(logs)) @ lasts
    asked = (SINGLE, *singles((course, np.array(origin), np.array(ahead))))
    survival = jax.jit(progression.survival, static_argnums=4)
    np.testing.assert_allclose(survival(*asked, NODES), [expected], rtol=1e-4)
    assert survival(*asked[:3], np.float32(0), NODES)[0] == 1


def drawn(subjects: int, visits: int = 6) -> tuple[Course, Ends]:
    """Subjects of MODEL itself, the event judged at each whole year up to the fourth."""
    rng = np.random.default_rng(3)
    course, _ = courses(subjects, visits, seed=3)
    y, levels, hi = (
        course.y.copy(),
        {name: told.copy() for name, told in course.levels.items()},
        np.full(subjects, np.inf),
    )
    for i in range(subjects):
        first = course.x[i, 0, -1:]
        a = float(MODEL.start @ first) + rng.normal()
        speed = float(np.exp(MODEL.tempo[0] + MODEL.pace @ first + np.exp(MODEL.tempo[1]) * rng.normal()))
        for k in range(2):
            u = np.exp(MODEL.log_noise[k]) * MODEL.root[k] @ rng.normal(size=2)
            mean = course.x[i] @ MODEL.fixed[k] + course.z[i] @ u
            mean += [curve(k, a + speed * t) for t in course.time[i]]
            louder = np.exp(MODEL.log_noise[k] + MODEL.noise_slope[k] * (a + speed * course.time[i]))
            y[i, :, k] = mean + rng.normal(size=visits) * louder
        for name in levels:
            odds = [chances(name, a + speed * t, x) for t, x in zip(course.time[i], course.x[i], strict=True)]
            levels[name][i] = [rng.choice(3, p=each) for each in odds]
        years = [year for year in (1, 2, 3, 4) if rng.random() > np.exp(-gone(a, speed, year - 1, year))]
        hi[i] = years[0] if years else np.inf
    lo = np.where(np.isfinite(hi), hi - 1, 4)[:, None]
    return replace(course, y=y, levels=levels), Ends(
        np.zeros((subjects, 1)), lo, hi[:, None], np.ones((subjects, 1), bool)
    )


@pytest.fixture(scope="module")
def found():
    course, ends = singles(drawn(300))
    weight = np.ones(300, np.float32)
    start = progression.begin(course, ends, weight, columns=1, levels=LEVELS)
    fitted, converged = progression.fit(course, ends, start, weight, nodes=NODES, steps=200)
    assert converged
    return course, ends, start, fitted


def test_a_fit_is_likelier_than_the_truth_and_near_it(found):
    course, ends, start, fitted = found
    logs = jax.jit(lambda m: jax.vmap(lambda c, e: progression.log_likelihood(m, c, e, NODES))(course, ends).sum())
    assert logs(fitted) > logs(SINGLE) > logs(start)
    assert logs(fitted) - logs(SINGLE) < 40, "half of a chi-squared of 37 parameters is some 18"
    np.testing.assert_allclose(fitted.log_noise, MODEL.log_noise, atol=0.1)
    np.testing.assert_allclose(fitted.tempo[0], MODEL.tempo[0], atol=0.5)
    np.testing.assert_allclose(fitted.hazard[0], MODEL.hazard[0], atol=0.35)
    np.testing.assert_allclose(fitted.levels["grade"].gain, MODEL.levels["grade"].gain, atol=0.5)
    assert fitted.curve[0, 0] > 0 > fitted.curve[1, 0]


def test_who_weighs_nothing_is_not_read(found):
    course, ends, start, _ = found
    some = (np.arange(300) < 60).astype(np.float32)
    noise = jax.tree.map(
        lambda part: np.where(some.reshape(-1, *[1] * (part.ndim - 1)) > 0, part, part[::-1]), (course, ends)
    )
    fits = [progression.fit(*read, start, some, nodes=NODES, steps=3) for read in ((course, ends), noise)]
    jax.tree.map(np.testing.assert_array_equal, *fits)


def test_a_flat_curve_is_a_line_and_a_steep_one_a_step():
    stage = jnp.linspace(-3, 3, 13)
    np.testing.assert_allclose(progression.shape(jnp.array([0.7, -6, 0.3]), stage), 0.7 * stage, atol=1e-3)
    step = progression.shape(jnp.array([0.7, 5, 0.3]), stage)
    assert (np.diff(step) >= 0).all()
    np.testing.assert_allclose(step, np.where(stage > 0.3, 4 * 0.7 / np.exp(5), 0), atol=1e-6)
