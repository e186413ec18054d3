"""Disease progression model: one stage that every subject passes, with a time shift and a pace per subject.

A subject's stage at time t since its first visit is s = a + e^v t (time shift and acceleration: Schiratti et al. 2015;
the progression score of Jedynak et al. 2012). Number k is y = X b_k + Z u_k + c_k(s) + e, a mixed model around a
logistic curve that all subjects share, whose noise e grows or shrinks with the stage. Levels come at cumulative logits
of the stage (McCullagh 1980) where they are ordered, else at softmax. An event comes at the rate exp(h + g s), so that
the stage is what course and event share: a joint model with the current value (Rizopoulos 2012). Given (a, v) numbers
are normal, and integrals over these two are sums over a grid.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.scipy.stats import norm
from jaxtyping import Array, Bool, Float, Int

from framework.baselines.mixed import mixed_effects
from framework.scores import interval_censored, ordinal_log_probs
from framework.types import Arr, pytree

REACH = 3.0  # how far the grid reaches, in spreads of a and v among subjects
TOLERANCE = 1e-4  # nats that a step can still gain, by parameter
STUCK = 1e8  # damping at which rounding lets no step go on
BEGIN = (
    0.1  # the least noise from which a fit begins, in spreads: it can shrink, but without any no step is short enough
)
BLOCK = 32  # subjects whose likelihoods are computed at once
# |v| and the logarithm of how much noise grows are held below this, those of an event's rate below five times this
FASTEST = 4.0


@pytree
class Levels:
    """Parameters of a target with m levels. Ordered: the first cut, softplus⁻¹ of the steps to the others, one gain of
    the stage and of each covariate; else a constant and gains for each level but the first.
    """

    cut: Float[Array, " k"]  # m - 1
    gain: Float[Array, " d"]
    weights: Float[Array, "d c"]


@pytree
class Progression:
    """Parameters shared by all subjects. The stage's unit is the spread of a; noise and steepness are logarithms."""

    start: Float[Array, " c"]  # of a, by each covariate at the first visit
    pace: Float[Array, " c"]  # of v
    tempo: Float[Array, "2"]  # the mean of v, and the logarithm of its spread
    fixed: Float[Array, "o p"]
    root: Float[Array, "o r r"]  # of the covariance of u over that of the noise, lower triangles
    log_noise: Float[Array, " o"]
    noise_slope: Float[Array, " o"]  # of log_noise over the stage
    curve: Float[Array, "o 3"]  # slope where the curve is steepest, steepness, the stage where that is
    levels: Mapping[str, Levels]
    hazard: Float[Array, "e 2"]  # h and g


@pytree
class Course:
    """Observations of each visit: its time, columns of X (the last c of them covariates) and Z, numbers, levels;
    `levels_seen` is the mask of the levels.
    """

    time: Float[Arr, "*n t"]
    x: Float[Arr, "*n t p"]
    z: Float[Arr, "*n t r"]
    y: Float[Arr, "*n t o"]
    seen: Bool[Arr, "*n t o"]
    levels: Mapping[str, Int[Arr, "*n t"]]
    levels_seen: Mapping[str, Bool[Arr, "*n t"]]

    def until(self, last: Int[Arr, ""]) -> "Course":
        """Return one subject's course, with no observations after visit number `last`."""
        before = jnp.arange(len(self.time)) <= last
        levels_seen = {name: seen & before for name, seen in self.levels_seen.items()}
        return replace(self, seen=self.seen & before[:, None], levels_seen=levels_seen)


@pytree
class Ends:
    """Follow-up of each event: start of the risk period, the interval after it in which the event came (infinite `hi`:
    censored at `lo`), in the unit of `Course.time`.
    """

    since: Float[Arr, "*n e"]
    lo: Float[Arr, "*n e"]
    hi: Float[Arr, "*n e"]
    observed: Bool[Arr, "*n e"]


@pytree
class Mixture:
    """Predictive distribution: numbers normal given (a, v), whose weights sum to one over the grid; probabilities of
    levels.
    """

    weight: Float[Array, "*q g"]
    mean: Float[Array, "*q o g"]
    variance: Float[Array, "*q o g"]
    levels: Mapping[str, Float[Array, "*q m"]]


@partial(jax.jit, static_argnames=("columns", "levels"))
def begin(
    course: Course, ends: Ends, weight: Float[Arr, " n"], *, columns: int, levels: tuple[tuple[str, int, bool], ...]
) -> Progression:
    """Return the initial values of a fit: each number's mixed model, the frequencies of levels and events, and slopes
    over the stage with the sign of the slopes over time within subjects.

    `columns` of X are covariates; `levels` gives for each target with levels its name, their count, and their order.
    """
    course, ends = (jax.tree.map(partial(_where, jnp.asarray(weight) > 0), part) for part in (course, ends))
    numbers, events = course.y.shape[-1], ends.lo.shape[-1]
    models = lax.map(
        lambda one: mixed_effects.fit(course.x, course.z, *one, weight, restricted=False, tolerance=1e-4),
        (jnp.moveaxis(course.y, -1, 0), jnp.moveaxis(course.seen, -1, 0)),
    )

    def rises(y: Float[Arr, "n t"], seen: Bool[Arr, "n t"]) -> Array:
        share = seen * weight[:, None]
        mean = (share * course.time).sum(1, keepdims=True) / jnp.maximum(share.sum(1, keepdims=True), 1e-9)
        return jnp.where((share * (course.time - mean) * jnp.where(seen, y, 0)).sum() < 0, -0.3, 0.3)

    def of_levels(name: str, count: int, ordered: bool) -> Levels:
        y, seen = course.levels[name], course.levels_seen[name]
        often = (jax.nn.one_hot(y, count) * (seen * weight[:, None])[..., None]).sum((0, 1)) + 1
        gains = 1 if ordered else count - 1
        ups = [y if ordered else y == level for level in range(1, gains + 1)]
        gain = jnp.stack([rises(up.astype(float), seen) for up in ups])
        up = jnp.cumsum(often)[:-1]
        cut = jnp.log(up / (often.sum() - up)) if ordered else jnp.log(often[1:] / often[0])
        if ordered:
            cut = cut.at[1:].set(jnp.log(jnp.expm1(jnp.diff(cut))))
        return Levels(cut, gain, jnp.zeros((gains, columns)))

    came = ends.observed & jnp.isfinite(ends.hi)
    risk = jnp.where(ends.observed, jnp.where(came, ends.hi, ends.lo), 0)
    rate = ((weight[:, None] * came).sum(0) + 0.5) / ((weight[:, None] * risk).sum(0) + 1)
    slope = jax.vmap(rises, (2, 2))(course.y, course.seen)
    return Progression(
        jnp.zeros(columns),
        jnp.zeros(columns),
        jnp.log(jnp.array([0.5, 0.5])),
        models.fixed,
        models.root,
        jnp.maximum(jnp.log(models.variance) / 2, jnp.log(BEGIN)),
        jnp.zeros(numbers),
        jnp.stack([slope, jnp.full(numbers, -1.0), jnp.zeros(numbers)], 1),
        {name: of_levels(name, count, ordered) for name, count, ordered in levels},
        jnp.stack([jnp.log(rate), jnp.full(events, 0.3)], 1),
    )


@partial(jax.jit, static_argnames=("nodes", "steps"))
def fit(
    course: Course, ends: Ends, start: Progression, weight: Float[Arr, " n"], *, nodes: int, steps: int
) -> tuple[Progression, Bool[Array, ""]]:
    """The largest posterior under weak priors (`_far`), from `start`, and whether it was reached: no step gains more
    than `TOLERANCE` a parameter, or than rounding shows. Subjects of weight 0 are not read.

    Scoring: the curvature is that of the subjects' own gradients (Berndt et al. 1974), damped after Marquardt (1963).
    """
    course, ends = (jax.tree.map(partial(_where, jnp.asarray(weight) > 0), part) for part in (course, ends))
    weight = jnp.maximum(jnp.asarray(weight), 0)
    flat, made = ravel_pytree(start)
    blocks = jax.tree.map(partial(_in_blocks, size=BLOCK), (course, ends, weight))

    def held(at: Array) -> Array:
        return _far(made(at))

    def look(at: Array) -> tuple[Array, Array, Array]:
        """Return the objective, its gradient, and its curvature."""

        def block(some: tuple[Course, Ends, Array]) -> tuple[Array, Array, Array]:
            course, ends, weight = some
            of_one = jax.value_and_grad(lambda at, course, ends: -log_likelihood(made(at), course, ends, nodes))
            values, gradients = jax.vmap(of_one, (None, 0, 0))(at, course, ends)
            return weight @ values, weight @ gradients, (weight[:, None] * gradients).T @ gradients

        value, gradient, curve = (part.sum(0) for part in lax.map(block, blocks))
        more, slope = jax.value_and_grad(held)(at)
        return value + more, gradient + slope, curve + jax.hessian(held)(at)

    def go_on(state: tuple) -> Array:
        at, _, damping, count, left = state
        return (count < steps) & (damping < STUCK) & (left > TOLERANCE * len(at))

    def move(state: tuple) -> tuple:
        at, (value, gradient, curve), damping, count, left = state
        step = -jnp.linalg.solve(curve + damping * jnp.diag(jnp.diag(curve)), gradient)
        new = look(at + step)  # the first time, with no gradient yet, where it begins
        better = new[0] < value
        at, seen = jax.tree.map(partial(jnp.where, better), (at + step, new), (at, (value, gradient, curve)))
        damping = jnp.where(count == 0, damping, jnp.where(better, damping / 4, damping * 4))
        return at, seen, damping, count + 1, jnp.where(better & (count > 0), -gradient @ step, left)

    with jax.default_matmul_precision("highest"):
        nothing = jnp.array(jnp.inf), jnp.zeros_like(flat), jnp.eye(len(flat))
        first = (flat, nothing, jnp.array(0.1), jnp.array(0), jnp.array(jnp.inf))
        at, (value, gradient, curve), *_, left = lax.while_loop(go_on, move, first)
        gain = gradient @ jnp.linalg.solve(curve + 1e-3 * jnp.diag(jnp.diag(curve)), gradient) / 2
        blur = 8 * jnp.finfo(flat.dtype).eps * jnp.abs(value)
        return made(at), jnp.minimum(gain, left) <= jnp.maximum(TOLERANCE * len(flat), blur)


def log_noise(model: Progression) -> Float[Array, " o"]:
    """Return the log standard deviation of each number's noise at stage 0, bounded below by `LEAST` spreads."""
    return jnp.logaddexp(2 * model.log_noise, 2 * jnp.log(mixed_effects.LEAST)) / 2


def collapsed(model: Progression) -> Bool[Array, " o"]:
    """Whether each number was fitted as if it had no noise."""
    return jnp.exp(model.log_noise) < mixed_effects.LEAST


def log_likelihood(model: Progression, course: Course, ends: Ends, nodes: int) -> Float[Array, ""]:
    """The log-likelihood of one subject."""
    speed, stage, logs = _seen(model, course, nodes)[:3]
    for place in range(ends.lo.shape[-1]):
        gone = partial(cumulated, model.hazard[place], stage + speed * ends.since[place], speed)
        loss = interval_censored(gone, ends.lo[place], ends.hi[place])
        logs = logs - jnp.where(ends.observed[place], loss, 0)
    return jax.nn.logsumexp(logs)


def predict(
    model: Progression, course: Course, time: Float[Arr, ""], x: Float[Arr, " p"], z: Float[Arr, " r"], nodes: int
) -> Mixture:
    """Return the predictive distribution of one subject at a `time` with its columns, given its observations."""
    speed, stage, logs, own, spread = _seen(model, course, nodes)
    weight, stage = jax.nn.softmax(logs), stage + speed * time
    curves = jax.vmap(lambda curve: shape(curve, stage))(model.curve)
    variance = noise_scale(model, stage) ** 2 + jnp.einsum("r,ogrs,s->og", z, spread, z)
    return Mixture(
        weight,
        (model.fixed @ x)[:, None] + jnp.einsum("r,org->og", z, own) + curves,
        jnp.exp(2 * log_noise(model)[:, None]) * variance,
        {name: jnp.exp(level_log_probs(levels, stage, x)) @ weight for name, levels in model.levels.items()},
    )


def survival(
    model: Progression, course: Course, origin: Float[Arr, ""], ahead: Float[Arr, ""], nodes: int
) -> Float[Array, " e"]:
    """Return the probability that each event has not come `ahead` after the origin, given that it had not by then."""
    speed, stage, logs = _seen(model, course, nodes)[:3]

    def of_event(hazard: Array) -> Array:
        weight = jax.nn.softmax(logs - cumulated(hazard, stage, speed, origin))
        return 1 + weight @ jnp.expm1(-cumulated(hazard, stage + speed * origin, speed, ahead))

    return jax.vmap(of_event)(model.hazard)


def shape(curve: Float[Array, "3"], stage: Float[Array, "*g"]) -> Float[Array, "*g"]:
    """A logistic curve through 0 at stage 0; the flatter it is, the nearer to a line."""
    slope, log_steep, place = curve
    steep = jnp.exp(log_steep)
    return 4 * slope / steep * (jax.nn.sigmoid(steep * (stage - place)) - jax.nn.sigmoid(-steep * place))


def noise_scale(model: Progression, stage: Float[Array, "*g"]) -> Float[Array, "o *g"]:
    """Return the noise of each number relative to that at stage 0."""
    return jax.vmap(lambda slope: jnp.exp(jnp.clip(slope * stage, -FASTEST, FASTEST)))(model.noise_slope)


def cumulated(
    hazard: Float[Array, "2"], stage: Float[Array, "*#b"], speed: Float[Array, "*#b"], ahead: Float[Arr, "*#b"]
) -> Float[Array, "*b"]:
    """The hazard summed over the time `ahead` from a stage: of exp(h + g s), while s grows evenly (Gompertz)."""
    level, gain = hazard
    grows = jnp.clip(gain * speed * ahead, -5 * FASTEST, 5 * FASTEST)
    small = jnp.abs(grows) < 1e-3
    growth = jnp.where(small, 1 + grows / 2, jnp.expm1(grows) / jnp.where(small, 1, grows))
    return jnp.asarray(ahead) * jnp.exp(jnp.clip(level + gain * stage, -5 * FASTEST, 5 * FASTEST)) * growth


def _seen(model: Progression, course: Course, nodes: int) -> tuple[Array, Array, Array, Array, Array]:
    """Over nodes² pairs (a, v): e^v, a, the logarithm of prior times likelihood; of numbers u, and u's covariance over
    the noise's.
    """
    at = jnp.linspace(-REACH, REACH, nodes)
    log = norm.logpdf(at)
    shift, quick = (part.ravel() for part in jnp.meshgrid(at, at))
    first = jnp.asarray(course.x)[0, course.x.shape[-1] - len(model.start) :]
    pace = model.tempo[0] + first @ model.pace + jnp.exp(model.tempo[1]) * quick
    speed, stage = jnp.exp(jnp.clip(pace, -FASTEST, FASTEST)), jnp.asarray(first @ model.start + shift)
    stages = stage + speed * jnp.asarray(course.time)[:, None]  # (t, g)
    logs, own, spread = _numbers(model, course, stages)
    logs = jax.nn.log_softmax(jnp.add.outer(log, log).ravel()) + logs.sum(0)
    for name, levels in model.levels.items():
        log_probs = jax.vmap(partial(level_log_probs, levels))(stages, course.x)  # (t, m, g)
        came = jnp.take_along_axis(log_probs, course.levels[name][:, None, None], 1)[:, 0]
        logs = logs + jnp.where(course.levels_seen[name][:, None], came, 0).sum(0)
    return speed, stage, logs, own, spread


def _numbers(model: Progression, course: Course, stages: Float[Array, "t g"]) -> tuple[Array, Array, Array]:
    """Return, for each number over the grid, its log-likelihood, u, and the covariance of u over the noise's."""

    def of_number(fixed, root, log_noise, curve, noise_scale, y, seen):
        root, seen = jnp.tril(root), seen[:, None]
        zl = jnp.where(seen[..., None], (course.z @ root)[:, None] / noise_scale[..., None], 0)  # (t, g, r)
        rest = jnp.where(seen, ((y - course.x @ fixed)[:, None] - shape(curve, stages)) / noise_scale, 0)
        effects = zl.shape[-1]
        inverse, log_det = _inverse(jnp.einsum("tgr,tgs->grs", zl, zl) + jnp.eye(effects, dtype=zl.dtype))
        u = jnp.einsum("grs,tgs,tg->gr", inverse, zl, rest)
        left = rest - jnp.einsum("tgr,gr->tg", zl, u)  # the sum of squares below cancels nothing
        squares = (left**2).sum(0) + (u**2).sum(-1)
        scale = jnp.where(seen, log_noise + 0.5 * jnp.log(2 * jnp.pi) + jnp.log(noise_scale), 0).sum(0)
        return -(log_det / 2 + scale) - squares / 2 * jnp.exp(-2 * log_noise), root @ u.T, root @ inverse @ root.T

    each = model.fixed, model.root, log_noise(model), model.curve, noise_scale(model, stages)
    return jax.vmap(of_number)(*each, course.y.T, course.seen.T)


def _inverse(matrix: Float[Array, "g r r"]) -> tuple[Float[Array, "g r r"], Float[Array, " g"]]:
    """Return the inverses and log-determinants of matrices of one or two rows, without a call to a library for each."""
    if matrix.shape[-1] == 1:
        return 1 / matrix, jnp.log(matrix[:, 0, 0])
    (a, b), (_, d) = jnp.moveaxis(matrix, 0, -1)
    det = a * d - b * b
    return jnp.stack([jnp.stack([d, -b], -1), jnp.stack([-b, a], -1)], -2) / det[:, None, None], jnp.log(det)


def level_log_probs(levels: Levels, stage: Float[Array, " g"], x: Float[Arr, " p"]) -> Float[Array, "m g"]:
    """The log-probabilities of levels."""
    columns = levels.weights.shape[-1]
    at = levels.gain[:, None] * stage + (levels.weights @ x[len(x) - columns :])[:, None]
    if len(levels.gain) < len(levels.cut) or len(levels.cut) == 1:
        step = jax.nn.softplus(levels.cut[1:, None])
        cut = levels.cut[0] + jnp.pad(jnp.cumsum(step, 0), ((1, 0), (0, 0))) - at
        return ordinal_log_probs(cut, step, axis=0)
    return jax.nn.log_softmax(jnp.concatenate([jnp.zeros_like(at[:1]), levels.cut[:, None] + at]), axis=0)


def _far(model: Progression) -> Array:
    """Minus the log prior, up to a constant: it determines the parameters that a small cohort leaves open."""
    away = (
        model.start,
        2 * model.pace,
        model.tempo - jnp.log(0.5),
        model.fixed / 10,
        model.root / 100,
        model.log_noise / 5,
        model.noise_slope / 0.5,
        model.curve - jnp.array([0.0, -1.0, 0.0]),
        model.hazard[:, 1] / 2,
        *(part for levels in model.levels.values() for part in (levels.gain / 3, levels.weights / 3, levels.cut / 5)),
    )
    return 0.5 * jnp.stack([(part**2).sum() for part in away]).sum()


def _where(counts: Bool[Array, " n"], part: Arr) -> Array:
    """Return `part` with zeros for subjects that do not count."""
    part = jnp.asarray(part)
    return jnp.where(counts.reshape(-1, *[1] * (part.ndim - 1)), part, jnp.zeros((), part.dtype))


def _in_blocks(part: Arr, size: int) -> Array:
    blocks = -(-len(part) // size)
    more = [(0, blocks * size - len(part)), *[(0, 0)] * (part.ndim - 1)]
    return jnp.pad(part, more).reshape(blocks, size, *part.shape[1:])
