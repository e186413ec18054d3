"""Outputs against loops, closed forms and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from framework.nn.outputs import ClassOutput, HazardOutput, OrdinalOutput, QuantileOutput
from framework.types import LEVELS, Interval, Truth

B, Q, E = 2, 3, 4


def perturbed(output, seed: int, size: float):
    """The output with every weight moved at random."""
    graph, state = nnx.split(output)
    rng = np.random.default_rng(seed)
    return nnx.merge(graph, jax.tree.map(lambda x: x + size * rng.normal(size=x.shape).astype(np.float32), state))


def asked(seed: int = 0) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(B, Q, E)), jnp.float32), jnp.asarray(rng.uniform(0, 9, (B, Q)), jnp.float32)


def truths(values, observed=True) -> Truth:
    values = np.asarray(values, np.float32)
    return Truth(values, np.broadcast_to(observed, values.shape))


def filled(value: float) -> jax.Array:
    return jnp.full((B, Q), value, jnp.float32)


@settings(max_examples=15)
@given(st.integers(0, 99), st.sampled_from([0.1, 1.0, 10.0, 100.0]))
def test_quantiles_ascend_whatever_the_weights(seed, size):
    raw = perturbed(QuantileOutput(E, rngs=nnx.Rngs(0)), seed, size)(*asked(seed))
    assert (np.diff(raw, axis=-1) >= 0).all()
    assert np.isfinite(raw).all()


def test_at_the_start_quantiles_are_those_of_a_normal():
    raw = QuantileOutput(E, rngs=nnx.Rngs(0))(*asked())
    np.testing.assert_allclose(raw, np.broadcast_to(norm.ppf(LEVELS), raw.shape), rtol=1e-5, atol=1e-6)


def test_a_forecast_is_in_original_units():
    output = perturbed(QuantileOutput(E, rngs=nnx.Rngs(0)), 1, 0.5)
    raw = output(*asked())
    np.testing.assert_allclose(output.forecast(raw, filled(20), filled(3)).quantiles, 20 + 3 * raw, rtol=1e-6)


def test_the_horizon_moves_a_forecast_linearly():
    output = perturbed(ClassOutput(3, E, rngs=nnx.Rngs(0)), 1, 0.5)
    e, _ = asked()
    at = [output(e, filled(years)) for years in (0.0, 1.0, 4.0)]
    np.testing.assert_allclose(at[2] - at[0], 4 * (at[1] - at[0]), rtol=1e-4, atol=1e-5)
    assert np.abs(at[1] - at[0]).max() > 0.1


def pinball(quantile, truth, level):
    """Koenker & Bassett 1978, as a case distinction."""
    return level * (truth - quantile) if truth >= quantile else (1 - level) * (quantile - truth)


def test_pinball_loss_is_what_a_loop_finds():
    output = perturbed(QuantileOutput(E, rngs=nnx.Rngs(0)), 2, 1.0)
    raw = np.asarray(output(*asked()), np.float64)
    rng = np.random.default_rng(3)
    base, scale = jnp.asarray(rng.normal(size=(B, Q))), jnp.asarray(rng.uniform(0.5, 3, (B, Q)))
    values = rng.normal(size=(B, Q))
    loss = output.loss(jnp.asarray(raw, jnp.float32), truths(values), base, scale)
    for i, j in np.ndindex(B, Q):
        told = np.asarray(base[i, j] + scale[i, j] * raw[i, j])
        expected = np.mean([pinball(t, values[i, j], level) for t, level in zip(told, LEVELS, strict=True)])
        assert float(loss[i, j]) == pytest.approx(expected / float(scale[i, j]), rel=1e-4)


def test_quantiles_of_the_truth_are_where_the_loss_is_least():
    """The loss is proper: on many draws of a known law its quantiles cannot be improved upon."""
    values = np.random.default_rng(0).gumbel(size=(1, 4000)).astype(np.float32)
    right = np.quantile(values, LEVELS).astype(np.float32)
    output = QuantileOutput(E, rngs=nnx.Rngs(0))
    zero, one = jnp.zeros(values.shape), jnp.ones(values.shape)

    def loss(told):
        return float(
            output.loss(jnp.broadcast_to(told, (*values.shape, len(LEVELS))), truths(values), zero, one).mean()
        )

    for place in range(len(LEVELS)):
        for move in (-0.1, 0.1):
            assert loss(right) < loss(right + move * (np.arange(len(LEVELS)) == place).astype(np.float32))


def test_cross_entropy_is_minus_the_log_of_what_was_given_to_the_truth():
    output = perturbed(ClassOutput(3, E, rngs=nnx.Rngs(0)), 1, 1.0)
    raw = output(*asked())
    zero = filled(0)
    probs = output.forecast(raw, zero, zero).probs
    np.testing.assert_allclose(np.asarray(probs).sum(-1), 1, rtol=1e-5)
    labels = np.array([[0, 1, 2], [2, 2, 0]])
    expected = -np.log(np.take_along_axis(np.asarray(probs), labels[..., None], -1))[..., 0]
    np.testing.assert_allclose(output.loss(raw, truths(labels), zero, zero), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_ordinal_levels_start_equally_likely(classes):
    raw = OrdinalOutput(classes, E, rngs=nnx.Rngs(0))(*asked())
    np.testing.assert_allclose(np.exp(raw), np.full((B, Q, classes), 1 / classes), rtol=1e-5)


@settings(max_examples=15)
@given(st.integers(0, 99), st.sampled_from([0.1, 1.0, 10.0]))
def test_ordinal_chances_are_differences_of_cumulative_ones(seed, size):
    """McCullagh 1980, in double precision: logit P(y <= k) = threshold_k - location."""
    output = perturbed(OrdinalOutput(4, E, rngs=nnx.Rngs(0)), seed, size)
    e, ahead = asked(seed)
    raw = output(e, ahead)
    location = np.asarray(output.location(e, ahead), np.float64)
    widths = np.log1p(np.exp(np.asarray(output.gaps[...], np.float64) + np.log(np.expm1(np.log(3)))))
    thresholds = float(output.first[...]) - np.log(3) + np.cumsum([0, *widths])
    upto = np.concatenate([0 * location, 1 / (1 + np.exp(location - thresholds)), 0 * location + 1], -1)
    np.testing.assert_allclose(np.exp(raw), np.diff(upto), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(np.exp(raw).sum(-1), 1, rtol=1e-5)
    assert np.isfinite(raw).all()


def trained(output, label, steps=300):
    """The output after gradient descent on labels, with nothing to tell them by."""
    graph, state = nnx.split(output)
    e, ahead = jnp.zeros((1, len(label), E)), jnp.zeros((1, len(label)))
    truth = Truth(np.asarray(label, np.float32)[None], np.ones((1, len(label)), bool))

    def loss(state):
        built = nnx.merge(graph, state)
        return built.loss(built(e, ahead), truth, ahead, ahead).mean()

    @jax.jit
    def descend(state):
        def step(_, s):
            return jax.tree.map(lambda p, g: p - 0.5 * g, s, jax.grad(loss)(s))

        built = nnx.merge(graph, jax.lax.fori_loop(0, steps, step, state))
        return built.forecast(built(e, ahead), ahead, ahead).probs

    return np.asarray(descend(state))[0, 0]


@pytest.mark.parametrize("kind", [ClassOutput, OrdinalOutput])
def test_a_class_that_training_never_shows_becomes_unlikely_and_never_impossible(kind):
    probs = trained(kind(4, E, rngs=nnx.Rngs(0)), [0, 0, 1, 3, 3, 3])
    assert 0 < probs[2] < 0.1
    np.testing.assert_allclose(probs[[0, 1, 3]], [2 / 6, 1 / 6, 3 / 6], atol=0.05)


@pytest.mark.parametrize("kind", [ClassOutput, OrdinalOutput])
def test_a_target_of_which_training_shows_nothing_stays_at_its_start(kind):
    graph, state = nnx.split(kind(3, E, rngs=nnx.Rngs(0)))
    e, ahead = asked()

    def loss(state):
        built = nnx.merge(graph, state)
        share = jnp.zeros((B, Q))
        each = built.loss(built(e, ahead), truths(np.zeros((B, Q)), False), filled(0), filled(1))
        return jnp.where(share > 0, share * each, 0).sum()

    assert not any(np.any(leaf) for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(state)))


EDGES = (1.0, 2.0, 4.0)


def survived(raw, years):
    """Gensheimer & Narasimhan 2019: the product of 1 - hazard over whole stretches, a power of it in the last one."""
    chance = 1.0
    for k, (start, end) in enumerate(zip((0, *EDGES), EDGES, strict=False)):
        share = (years - start) / (end - start)
        share = max(share, 0) if k == len(EDGES) - 1 else min(max(share, 0), 1)
        chance *= (1 - 1 / (1 + np.exp(-raw[k]))) ** share
    return chance


def hazards(seed=0):
    output = perturbed(HazardOutput(EDGES, E, rngs=nnx.Rngs(0)), seed, 1.0)
    return output, output(asked(seed)[0])


def test_survival_is_the_product_over_stretches():
    output, raw = hazards()
    for years in (0.0, 0.5, 1.0, 3.0, 4.0, 9.0):
        told = output.forecast(raw, filled(years)).survival
        for i, j in np.ndindex(B, Q):
            assert float(told[i, j]) == pytest.approx(survived(np.asarray(raw[i, j], float), years), rel=1e-4)
    start = HazardOutput(EDGES, E, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(start.forecast(start(asked()[0], 0.25), filled(7.0)).survival, np.exp(-7 / 4), rtol=1e-5)


@pytest.mark.parametrize(("lo", "hi"), [(0.0, 0.5), (0.5, 3.0), (3.0, 12.0), (0.0, np.inf), (2.5, np.inf), (7.0, 7.01)])
def test_the_loss_is_minus_the_log_of_the_chance_of_the_interval(lo, hi):
    output, raw = hazards()
    loss = output.loss(raw, Interval(filled(lo), filled(hi), np.ones((B, Q), bool)))
    for i, j in np.ndindex(B, Q):
        one = np.asarray(raw[i, j], float)
        chance = survived(one, lo) - (survived(one, hi) if np.isfinite(hi) else 0)
        assert float(loss[i, j]) == pytest.approx(-np.log(chance), rel=2e-3)


def test_gradients_of_survival_are_finite_at_every_end():
    """Events at the origin, in no time at all, censored at once, far behind the last edge, and rows taken out."""
    output, (e, _) = hazards()[0], asked()
    graph, state = nnx.split(output)
    lo = np.array([[0, 0, 0], [50, 3, np.nan]], np.float32)
    hi = np.array([[0, 1e-6, np.inf], [60, 3, np.nan]], np.float32)
    observed = np.array([[True, True, True], [True, True, False]])

    def loss(state):
        built = nnx.merge(graph, state)
        return built.loss(built(e), Interval(lo, hi, observed)).sum()

    value, slopes = jax.value_and_grad(loss)(state)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


def test_hazards_of_many_draws_are_found_again():
    """The maximum of the likelihood of interval-censored draws of a known law is that law."""
    rng = np.random.default_rng(0)
    came = rng.exponential(3.0, size=(1, 3000)).astype(np.float32)
    seen = np.floor(came)  # a visit a year, for six years
    lo, hi = np.minimum(seen, 6), np.where(seen < 6, seen + 1, np.inf).astype(np.float32)
    graph, state = nnx.split(HazardOutput((2.0, 4.0), 1, rngs=nnx.Rngs(0)))
    e = jnp.zeros((*came.shape, 1))

    def loss(state):
        built = nnx.merge(graph, state)
        return built.loss(built(e), Interval(lo, hi, np.ones(came.shape, bool))).mean()

    step = jax.jit(lambda s: jax.tree.map(lambda p, g: p - 0.5 * g, s, jax.grad(loss)(s)))
    for _ in range(100):
        state = step(state)
    built = nnx.merge(graph, state)
    for years in (1.0, 2.0, 5.0):
        told = float(built.forecast(built(e[:, :1]), jnp.full((1, 1), years)).survival[0, 0])
        assert told == pytest.approx(np.exp(-years / 3), abs=0.02)


@pytest.mark.parametrize(
    "make",
    [
        lambda: QuantileOutput(E, rngs=nnx.Rngs(0)),
        lambda: ClassOutput(3, E, rngs=nnx.Rngs(0)),
        lambda: OrdinalOutput(3, E, rngs=nnx.Rngs(0)),
    ],
)
def test_what_was_not_observed_gives_a_finite_loss_whatever_stands_there(make):
    """The model masks it away, which a NaN or an infinity would survive."""
    output, zero, one = make(), filled(0), filled(1)
    raw = output(*asked())
    losses = [output.loss(raw, truths(np.full((B, Q), junk), False), zero, one) for junk in (0.0, 1e9, np.nan)]
    for loss in losses:
        np.testing.assert_array_equal(loss, losses[0])
        assert np.isfinite(loss).all()
