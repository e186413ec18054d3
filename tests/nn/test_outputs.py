"""Outputs against loops, closed forms and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from framework.nn.outputs import ClassOutput, QuantileOutput
from framework.types import LEVELS, Truth

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


@pytest.mark.parametrize(
    "make", [lambda: QuantileOutput(E, rngs=nnx.Rngs(0)), lambda: ClassOutput(3, E, rngs=nnx.Rngs(0))]
)
def test_what_was_not_observed_gives_a_finite_loss_whatever_stands_there(make):
    """The model masks it away, which a NaN or an infinity would survive."""
    output, zero, one = make(), filled(0), filled(1)
    raw = output(*asked())
    losses = [output.loss(raw, truths(np.full((B, Q), junk), False), zero, one) for junk in (0.0, 1e9, np.nan)]
    for loss in losses:
        np.testing.assert_array_equal(loss, losses[0])
        assert np.isfinite(loss).all()
