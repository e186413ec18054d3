"""Each scoring rule against its definition in NumPy's double precision, and against numbers known by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate
from scipy.special import expit

from framework.scores import (
    LEAST_PROBABILITY,
    brier,
    cross_entropy,
    crps,
    interval_censored,
    log_loss,
    ordinal_log_probs,
    pinball,
)
from framework.types import LEVELS

RNG = np.random.default_rng(0)
QUANTILES, TRUTH = np.sort(RNG.normal(size=(50, len(LEVELS)))), RNG.normal(size=50)
PROBS, LEVEL = RNG.dirichlet(np.ones(4), 50), RNG.integers(0, 4, 50)
ARRAYS = pytest.mark.parametrize("kind", [np.asarray, jnp.asarray], ids=["numpy", "jax"])


def same(found, expected) -> None:
    np.testing.assert_allclose(found, expected, rtol=2e-5 if isinstance(found, jax.Array) else 1e-12, atol=1e-7)


@ARRAYS
def test_pinball_weighs_errors_by_their_side(kind):
    expected = [
        [a * (y - q) if y > q else (1 - a) * (q - y) for q, a in zip(row, LEVELS, strict=True)]
        for row, y in zip(QUANTILES, TRUTH, strict=True)
    ]
    same(pinball(kind(QUANTILES), kind(TRUTH)), expected)
    same(pinball(kind([[1.0, 1.0]]), kind([3.0]), (0.25, 0.75)), [[0.5, 1.5]])


@ARRAYS
def test_log_loss_is_of_what_came_true(kind):
    same(log_loss(kind(PROBS), kind(LEVEL)), [-np.log(p[k]) for p, k in zip(PROBS, LEVEL, strict=True)])
    same(log_loss(kind([[0.0, 1.0]]), kind([0.0])), [-np.log(LEAST_PROBABILITY)])
    same(log_loss(kind([[1e-9, 1.0]]), kind([0]), least=0.0), [-np.log(1e-9)])


@ARRAYS
def test_cross_entropy_is_the_log_loss_of_logarithms(kind):
    same(cross_entropy(kind(np.log(PROBS)), kind(LEVEL)), log_loss(PROBS, LEVEL))
    same(cross_entropy(kind([[-100.0, 0.0]]), kind([0])), [100.0])


def test_arrays_of_any_shape_are_scored_row_by_row():
    same(log_loss(PROBS.reshape(5, 10, 4), LEVEL.reshape(5, 10)), log_loss(PROBS, LEVEL).reshape(5, 10))
    same(pinball(QUANTILES.reshape(2, 25, -1), TRUTH.reshape(2, 25)).reshape(50, -1), pinball(QUANTILES, TRUTH))


def test_numpy_is_scored_in_its_own_precision():
    assert pinball(QUANTILES, TRUTH).dtype == log_loss(PROBS, LEVEL).dtype == np.float64


def test_brier_sums_over_levels():
    same(brier(jnp.asarray(PROBS), jnp.asarray(LEVEL)), ((PROBS - np.eye(4)[LEVEL]) ** 2).sum(1))


def test_crps_is_the_integral_of_the_quantile_loss_over_all_levels():
    """CRPS = 2 ∫ (pinball of level a) da, by adaptive quadrature."""

    def loss(a: float, row: np.ndarray, y: float) -> float:
        error = y - np.interp(a, LEVELS, row)
        return 2 * max(a * error, (a - 1) * error)

    for row, y in zip(QUANTILES[:5], TRUTH[:5], strict=True):
        expected, _ = integrate.quad(loss, 0, 1, args=(row, y), limit=400)
        np.testing.assert_allclose(crps(jnp.asarray(row)[None], jnp.asarray([y]))[0], expected, rtol=1e-4)


@pytest.mark.parametrize("axis", [-1, 0])
def test_ordered_levels_have_the_differences_of_cumulative_logits(axis):
    cuts = np.cumsum(RNG.uniform(0.2, 2, (7, 3)), -1) - 3
    widths = np.diff(cuts, axis=-1)
    expected = np.log(np.diff(expit(cuts), prepend=0, append=1, axis=-1))
    found = ordinal_log_probs(*(jnp.moveaxis(jnp.asarray(x), -1, axis) for x in (cuts, widths)), axis=axis)
    same(jnp.moveaxis(found, axis, -1), expected)


def test_far_from_all_cuts_a_level_keeps_its_digits():
    """Differences of sigmoids near 1 would be 0 in single precision."""
    found = ordinal_log_probs(jnp.array([30.0, 31.0]), jnp.array([1.0]))
    same(found[1:], [-30 + np.log(1 - np.exp(-1)), -31])


def test_an_event_in_an_interval_and_one_that_has_not_come():
    """Under a constant rate: S(lo) - S(hi), and S(lo) where hi is infinite, with finite gradients."""
    lo, hi = np.array([0.0, 1.0, 2.0]), np.array([0.5, 3.0, np.inf])

    def loss(rate: float) -> jax.Array:
        return interval_censored(lambda time: rate * time, jnp.asarray(lo), jnp.asarray(hi))

    same(loss(0.3), -np.log(np.exp(-0.3 * lo) - np.exp(-0.3 * hi)))
    closed = [0.5 * np.exp(-0.15) / np.expm1(-0.15), 1 + 2 * np.exp(-0.6) / np.expm1(-0.6), 2.0]
    np.testing.assert_allclose(jax.jacfwd(loss)(0.3), closed, rtol=1e-5)
    assert np.isfinite(jax.grad(lambda rate: loss(rate).sum())(0.3))
