"""The optimiser against optax's own AdamW, and the schedules against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from framework.errors import UserError
from framework.train.optimizer import AdamWUpdate, Constant, Cosine, TracedHyperparameters, Trapezoid, averaged

WARMUP, STEPS, SPEED, DECAY, CLIP = 5, 40, 0.02, 0.3, 0.7
OURS = AdamWUpdate(WARMUP, STEPS, Cosine(0.05))


def dynamic(speed=SPEED, decay=DECAY):
    return TracedHyperparameters(
        jnp.asarray(speed), jnp.asarray(decay), jnp.asarray(0.0), jnp.ones(1), jnp.asarray(CLIP)
    )


def schedule(step):
    """Linear warm-up, then half a cosine down to a twentieth, in plain NumPy."""
    if step < WARMUP:
        return SPEED * (step + 1) / WARMUP
    return SPEED * (0.05 + 0.95 * (1 + np.cos(np.pi * min(1, (step - WARMUP) / (STEPS - WARMUP)))) / 2)


def test_the_schedule_has_the_values_it_says():
    told = [float(OURS.rate(jnp.asarray(step), dynamic())) for step in range(STEPS + 5)]
    np.testing.assert_allclose(told, [schedule(step) for step in range(STEPS + 5)], rtol=1e-5)
    assert told[0] == pytest.approx(SPEED / WARMUP)
    assert told[WARMUP] == pytest.approx(max(told)) == pytest.approx(SPEED)
    assert told[STEPS:] == pytest.approx([SPEED / 20] * 5)
    assert (np.diff(told[WARMUP : STEPS + 1]) < 0).all()


def test_without_warm_up_it_starts_at_full_speed():
    assert float(AdamWUpdate(0, STEPS, Cosine(0.05)).rate(jnp.asarray(0), dynamic())) == pytest.approx(SPEED)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(), [1, 1, 1, 1, 1]),
        (Cosine(0.2), [1, 0.2 + 0.8 * (1 + 0.5**0.5) / 2, 0.6, 0.2 + 0.8 * (1 - 0.5**0.5) / 2, 0.2]),
        (Trapezoid(0.5), [1, 1, 1, 0.5, 0]),
        (Trapezoid(1.0), [1, 0.75, 0.5, 0.25, 0]),
        (Trapezoid(0.0), [1, 1, 1, 1, 0]),
    ],
)
def test_schedules_have_their_shape(schedule, expected):
    np.testing.assert_allclose(
        [schedule(jnp.asarray(done, jnp.float32)) for done in (0, 0.25, 0.5, 0.75, 1)], expected, atol=1e-6
    )


@pytest.mark.parametrize("made", [lambda: Cosine(1.5), lambda: Trapezoid(-0.1)])
def test_a_schedule_that_cannot_be_is_refused(made):
    with pytest.raises(UserError, match="expected a share from 0 to 1"):
        made()


def test_the_average_is_that_of_numpy():
    rng = np.random.default_rng(0)
    series = rng.normal(size=(50, 3, 2)).astype(np.float32)
    expected, found = series[0].astype(float), {"w": jnp.asarray(series[0])}
    for step, now in enumerate(series[1:]):
        decay = min(0.8, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * now
        found = averaged(found, {"w": jnp.asarray(now)}, jnp.asarray(step), 0.8)
    np.testing.assert_allclose(found["w"], expected, rtol=1e-5, atol=1e-6)


def problem():
    rng = np.random.default_rng(0)
    params = {"weight": rng.normal(size=(4, 3)), "bias": rng.normal(size=3), "kernel": rng.normal(size=(2, 2, 2, 1, 3))}
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    pulls = [
        jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape) * 3, jnp.float32), params) for _ in range(STEPS)
    ]
    return params, pulls


def ours(params, pulls, dynamic):
    def one(state, given):
        (params, momenta), (step, pull) = state, given
        return OURS.update(pull, momenta, params, step, dynamic), None

    every = jax.tree.map(lambda *x: jnp.stack(x), *pulls)
    start = (params, OURS.initial(params))
    return jax.lax.scan(one, start, (jnp.arange(len(pulls)), every))[0][0]


def test_it_is_adamw_with_decay_on_matrices_and_kernels_alone():
    params, pulls = problem()
    mask = jax.tree.map(lambda x: x.ndim > 1, params)
    theirs = optax.chain(
        optax.clip_by_global_norm(CLIP),
        optax.adamw(lambda step: jnp.asarray([schedule(k) for k in range(STEPS)])[step], weight_decay=DECAY, mask=mask),
    )
    state, expected, update = theirs.init(params), params, jax.jit(theirs.update)
    for pull in pulls:
        updates, state = update(pull, state, expected)
        expected = optax.apply_updates(expected, updates)
    found = ours(params, pulls, dynamic())
    for name in params:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
    undecayed = ours(params, pulls, dynamic(decay=0.0))
    np.testing.assert_array_equal(undecayed["bias"], found["bias"])
    assert np.abs(undecayed["weight"] - found["weight"]).max() > 0.01


def test_vmapped_members_each_have_their_own_settings():
    """A bias stays a bias beside others: the axis of members does not make it a matrix."""
    params, pulls = problem()
    settings = [(0.01, 0.0), (0.03, 0.5)]
    many = jax.vmap(lambda d: ours(params, pulls[:6], d))(
        jax.tree.map(lambda *x: jnp.stack(x), *(dynamic(*pair) for pair in settings))
    )
    for m, pair in enumerate(settings):
        alone = ours(params, pulls[:6], dynamic(*pair))
        for name in params:
            np.testing.assert_allclose(many[name][m], alone[name], rtol=1e-5, atol=1e-6)
