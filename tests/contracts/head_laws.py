"""What every sequence head must obey, as functions, so that broken heads can be put to the same question."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from framework.types import Query, Sequence

B, T, Q, D = 3, 5, 6, 4


def series(seed: int = 0, shift: float = 0.0) -> tuple[Sequence, Query]:
    """Irregular visits, the last ones of some rows padding, queries from every origin there is."""
    rng = np.random.default_rng(seed)
    count = np.array([5, 3, 2])
    valid = np.arange(T) < count[:, None]
    times = np.where(valid, np.cumsum(rng.uniform(0.2, 1.5, (B, T)), 1), 0)
    x = rng.normal(size=(B, T, D)) + shift
    observed = (rng.random((B, T, D)) > 0.3) & valid[..., None]
    origin = rng.integers(0, count[:, None], (B, Q))
    time = np.take_along_axis(times, origin, 1) + rng.uniform(0, 3, (B, Q))
    as32 = [np.asarray(a, np.float32) for a in (np.where(observed, x, 0), times, time)]
    sequence = Sequence(as32[0], observed, as32[1], valid)
    return sequence, Query(as32[2], origin, np.zeros((B, Q, 0), np.float32), np.ones((B, Q), bool))


def with_(value, **changes):
    return dataclasses.replace(value, **changes)


def blind_to_the_future(head) -> None:
    """The answer equals the answer on the sequence cut at the origin."""
    sequence, query = series()
    noise, _ = series(seed=1, shift=5.0)
    for j in range(T):
        asks = np.asarray(query.origin) == j
        if not asks.any():
            continue
        later = np.arange(T) > j
        cut = with_(sequence, valid=sequence.valid & ~later, observed=sequence.observed & ~later[:, None])
        other = with_(
            sequence,
            x=np.where(later[None, :, None], noise.x, sequence.x),
            observed=np.where(later[None, :, None], noise.observed, sequence.observed),
            times=np.where(later, sequence.times + 7, sequence.times).astype(np.float32),
            valid=np.where(later, ~sequence.valid, sequence.valid),
        )
        expected = np.asarray(head(sequence, query))[asks]
        np.testing.assert_array_equal(np.asarray(head(cut, query))[asks], expected)
        np.testing.assert_array_equal(np.asarray(head(other, query))[asks], expected)


def deaf_to_what_is_masked(head) -> None:
    """Values under a mask, and whatever stands in padded visits, never matter."""
    sequence, query = series()
    loud = np.where(sequence.observed, sequence.x, 1e6).astype(np.float32)
    times = np.where(sequence.valid, sequence.times, 999).astype(np.float32)
    np.testing.assert_array_equal(head(with_(sequence, x=loud, times=times), query), head(sequence, query))


def the_same_in_any_company(head) -> None:
    """Padding before or behind, or asking for one row alone, changes nothing beyond rounding; permuted rows permute."""
    sequence, query = series()
    whole = np.asarray(head(sequence, query))
    row = jax.tree.map(lambda a: np.asarray(a)[1:2], (sequence, query))
    np.testing.assert_allclose(head(*row), whole[1:2], rtol=1e-5, atol=1e-6)
    order = np.array([2, 0, 1])
    moved = jax.tree.map(lambda a: np.asarray(a)[order], (sequence, query))
    np.testing.assert_allclose(head(*moved), whole[order], rtol=1e-5, atol=1e-6)
    longer = jax.tree.map(lambda a: np.concatenate([np.zeros_like(a[:, :1]), a, np.zeros_like(a)], 1), sequence)
    later = with_(query, origin=query.origin + 1)
    np.testing.assert_allclose(head(longer, later), whole, rtol=1e-5, atol=1e-6)


def the_same_compiled(head) -> None:
    sequence, query = series()
    np.testing.assert_allclose(jax.jit(head)(sequence, query), head(sequence, query), rtol=1e-5, atol=1e-6)


def finite_gradients(head) -> None:
    sequence, query = series()
    x = jax.grad(lambda x: jnp.sum(head(with_(sequence, x=x), query) ** 2))(jnp.asarray(sequence.x))
    assert np.isfinite(x).all()
    assert np.abs(x).max() > 0


def sees_how_far_ahead(head) -> None:
    sequence, query = series()
    far = with_(query, time=query.time + 5)
    assert np.abs(np.asarray(head(sequence, far)) - np.asarray(head(sequence, query))).max() > 0


LAWS = (
    blind_to_the_future,
    deaf_to_what_is_masked,
    the_same_in_any_company,
    the_same_compiled,
    finite_gradients,
    sees_how_far_ahead,
)
