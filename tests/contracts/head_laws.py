"""What every sequence head must obey, as functions, so that broken heads can be put to the same question."""

import dataclasses
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

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
    return sequence, Query(
        as32[2], origin, np.zeros((B, Q, 0), np.float32), np.zeros((B, Q, 0), bool), np.ones((B, Q), bool)
    )


@lru_cache(maxsize=2)
def compiled(head):
    """One program for all laws that ask at these shapes."""
    return jax.jit(lambda sequence, query: head(sequence, query))


def with_(value, **changes):
    return dataclasses.replace(value, **changes)


def blind_to_the_future(head) -> None:
    """The answer equals the answer on the sequence cut at the origin."""
    ask, (sequence, query), (noise, _) = compiled(head), series(), series(seed=1, shift=5.0)
    expected = np.asarray(ask(sequence, query))
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
        np.testing.assert_array_equal(np.asarray(ask(cut, query))[asks], expected[asks])
        np.testing.assert_array_equal(np.asarray(ask(other, query))[asks], expected[asks])


def deaf_to_what_is_masked(head) -> None:
    """Values under a mask, and whatever stands in padded visits, never matter."""
    ask, (sequence, query) = compiled(head), series()
    times = np.where(sequence.valid, sequence.times, 999).astype(np.float32)
    for junk in (1e6, np.nan):
        loud = np.where(sequence.observed, sequence.x, junk).astype(np.float32)
        np.testing.assert_array_equal(ask(with_(sequence, x=loud, times=times), query), ask(sequence, query))


def the_same_in_any_company(head) -> None:
    """Padding before or behind, or asking for one row alone, changes nothing beyond rounding; permuted rows permute."""
    ask, (sequence, query) = compiled(head), series()
    whole = np.asarray(ask(sequence, query))
    row = jax.tree.map(lambda a: np.asarray(a)[1:2], (sequence, query))
    close(ask(*row), whole[1:2])
    order = np.array([2, 0, 1])
    moved = jax.tree.map(lambda a: np.asarray(a)[order], (sequence, query))
    close(ask(*moved), whole[order])
    longer = jax.tree.map(lambda a: np.concatenate([np.zeros_like(a[:, :1]), a, np.zeros_like(a)], 1), sequence)
    close(ask(longer, with_(query, origin=query.origin + 1)), whole)


def the_same_in_rows(head) -> None:
    """QuerySet in shorter rows, several to a subject and in any order of subjects, are answered as in long ones."""
    ask, (sequence, query) = compiled(head), series()
    whole = np.asarray(ask(sequence, query))
    row = np.array([2, 0, 1, 0, 2, 1, 1])
    part = np.array([0, 1, 2, 0, 2, 1, 0])

    def cut(x: np.ndarray) -> np.ndarray:
        return np.stack([x[i, 2 * k : 2 * k + 2] for i, k in zip(row, part, strict=True)])

    close(ask(sequence, with_(jax.tree.map(cut, query), row=row)), cut(whole))


def the_same_compiled(head) -> None:
    sequence, query = series()
    close(compiled(head)(sequence, query), head(sequence, query))


def the_same_side_by_side(head) -> None:
    """Vmapped over members, each with histories and questions of its own, it says what a loop would say."""
    members = [series(seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *parts: np.stack(parts), *members)
    together = jax.jit(jax.vmap(head))(*stacked)
    ask = compiled(head)
    for lane, member in zip(together, members, strict=True):
        close(lane, ask(*member))


def finite_gradients(head) -> None:
    """With respect to what is seen and to every parameter, whatever stands under masks and in questions not asked."""
    sequence, query = series()
    loud = with_(sequence, times=np.where(sequence.valid, sequence.times, 999).astype(np.float32))
    aside = with_(query, time=query.time - 50 * (np.arange(Q) == 0).astype(np.float32), valid=query.valid.copy())
    aside.valid[:, 0] = False
    slope = jax.jit(jax.grad(total(head), argnums=(0, 1)))
    for told in ((sequence, query), (loud, aside), (unseen(sequence), query)):
        slopes = slope(parameters(head), told[0].x, told)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
        if told[0] is sequence:
            assert np.abs(slopes[1]).max() > 0
            assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slopes[0]))


def right_gradients(head) -> None:
    """In float64, those of central differences along a random direction."""
    with jax.enable_x64(True):
        params, told = jax.tree.map(
            lambda a: jnp.asarray(a, jnp.float64 if jnp.issubdtype(a.dtype, jnp.floating) else None),
            (parameters(head), series()),
        )
        ask = jax.jit(jax.value_and_grad(total(head), argnums=(0, 1)))
        loss, slopes = ask(params, told[0].x, told)
        assert loss.dtype == jnp.float64
        rng = np.random.default_rng(0)
        way = jax.tree.map(lambda a: rng.normal(size=a.shape), (params, told[0].x))
        ends = [
            ask(*jax.tree.map(lambda a, b, e=e: a + e * b, (params, told[0].x), way), told)[0] for e in (1e-6, -1e-6)
        ]
        expected = sum(np.sum(np.asarray(a) * b) for a, b in zip(*map(jax.tree.leaves, (slopes, way)), strict=True))
        np.testing.assert_allclose((ends[0] - ends[1]) / 2e-6, expected, rtol=1e-4, atol=1e-7)


def in_single_precision(head) -> None:
    """float32 in, float32 out, and nothing in between that would be promoted unasked; types are settled in tracing."""
    with jax.numpy_dtype_promotion("strict"):
        assert jax.eval_shape(head, *jax.tree.map(jnp.asarray, series())).dtype == jnp.float32


def sees_how_far_ahead(head) -> None:
    ask, (sequence, query) = compiled(head), series()
    far = with_(query, time=query.time + 5)
    assert np.abs(np.asarray(ask(sequence, far)) - np.asarray(ask(sequence, query))).max() > 0


def looks_back_as_from_the_origin(head) -> None:
    """A time before the origin is answered as the origin's own time is."""
    ask, (sequence, query) = compiled(head), series()
    origin = np.take_along_axis(sequence.times, query.origin, 1)
    at = ask(sequence, with_(query, time=origin))
    np.testing.assert_array_equal(ask(sequence, with_(query, time=origin - 3)), at)
    assert np.isfinite(at).all()


def answers_whoever_was_hardly_seen(head) -> None:
    """A subject with one visit, and one of whom nothing was ever observed, get finite answers."""
    ask, (sequence, query) = compiled(head), series()
    first = np.arange(T) == 0
    once = with_(sequence, valid=sequence.valid & first, observed=sequence.observed & first[:, None])
    query = with_(query, origin=np.zeros_like(query.origin))
    for told in (once, unseen(sequence), unseen(once)):
        assert np.isfinite(ask(told, query)).all()


def unseen(sequence: Sequence) -> Sequence:
    """The same visits, nothing observed at any."""
    return with_(sequence, observed=np.zeros_like(sequence.observed))


def close(one, other) -> None:
    """Equal up to the rounding of some hundred steps."""
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-5)


def parameters(head):
    """The head's parameters; none where it is a mere function."""
    return nnx.split(head)[1] if isinstance(head, nnx.Module) else {}


def total(head):
    """A number to differentiate: of parameters, of x, and of the rest of what is told."""
    graph = nnx.split(head)[0] if isinstance(head, nnx.Module) else None

    def loss(params, x, told):
        sequence, query = told
        ask = head if graph is None else nnx.merge(graph, params)
        return jnp.sum(ask(with_(sequence, x=x), query) ** 2)

    return loss


LAWS = (
    blind_to_the_future,
    deaf_to_what_is_masked,
    the_same_in_any_company,
    the_same_in_rows,
    the_same_compiled,
    the_same_side_by_side,
    finite_gradients,
    right_gradients,
    in_single_precision,
    sees_how_far_ahead,
    looks_back_as_from_the_origin,
    answers_whoever_was_hardly_seen,
)
