"""Every head of conf/model/head obeys the laws, and each law is broken by a head made to break it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from framework.history import at_origin
from framework.nn.heads.base import years_ahead
from tests.contracts import head_laws as laws
from tests.contracts.head_laws import with_
from tests.contracts.recipes import head, names

FEW = 8  # features, divided by the transformer's heads
HEADS = [(name, FEW) for name in names("model/head")]
SHIPPED = [(name, None) for name in names("model/head")]  # make trials


@pytest.fixture(
    scope="module",
    params=[*HEADS, *(pytest.param(one, marks=pytest.mark.long) for one in SHIPPED)],
    ids=lambda one: one[0] if one[1] else f"{one[0]} as shipped",
)
def built(request):
    name, few = request.param
    return stirred(nnx.jit(lambda: head(name, few)(d_in=laws.D, rngs=nnx.Rngs(0)))())


def stirred(head):
    """The head with other parameters than those it starts from, where offsets of 0 could hide a fault."""
    graph, state = nnx.split(head)
    rng = np.random.default_rng(0)
    return nnx.merge(graph, jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape).astype(x.dtype), state))


@pytest.mark.parametrize("law", laws.LAWS, ids=lambda law: law.__name__)
def test_law(built, law):
    law(built)


def test_one_number_for_each_feature(built):
    sequence, query = laws.series()
    assert jax.eval_shape(built, sequence, query).shape == (laws.B, laws.Q, built.out_features)


def test_one_trace_for_each_shape(built):
    traces = []

    @jax.jit
    def run(sequence, query):
        traces.append(1)
        return built(sequence, query)

    for seed in range(3):
        run.eval_shape(*laws.series(seed))
    assert len(traces) == 1


def simple(sequence, query):
    """A lawful floor that the broken heads below each spoil in one way."""
    x = jnp.where(sequence.observed & sequence.valid[..., None], sequence.x, 0)
    series = jnp.cumsum(x, axis=1)
    ahead = years_ahead(sequence, query)
    return at_origin(series, query) * jnp.exp(-0.1 * ahead)[..., None]


def clairvoyant(sequence, query):
    return simple(sequence, query) + sequence.x.mean(1)[:, None]


def counts_visits(sequence, query):
    return simple(sequence, query) + sequence.valid.sum(1)[:, None, None]


def reads_under_the_mask(sequence, query):
    x = sequence.x * sequence.valid[..., None].astype(sequence.x.dtype)
    return at_origin(jnp.cumsum(x, axis=1), query) + query.time[..., None]


def normalises_over_the_batch(sequence, query):
    out = simple(sequence, query)
    return out - out.mean(0)


def counts_padding(sequence, query):
    return simple(sequence, query) + sequence.valid.shape[1]


def breeds_nan(sequence, query):
    safe = jnp.where(sequence.observed[:, :1], jnp.sqrt(jnp.abs(sequence.x[:, :1]) * 0.0), 0)
    return simple(sequence, query) + safe


def ignores_the_horizon(sequence, query):
    return at_origin(jnp.cumsum(jnp.where(sequence.observed, sequence.x, 0), axis=1), query)


def differs_when_compiled(sequence, query):
    return simple(sequence, query) + (1.0 if isinstance(query.time, jax.core.Tracer) else 0.0)


def knows_the_row(sequence, query):
    return simple(sequence, query) + jnp.arange(sequence.x.shape[-1])[None, None] * sequence.x.sum() * 0.1


def stops_gradients(sequence, query):
    x = with_(sequence, x=sequence.x + jax.lax.stop_gradient(sequence.x))
    return simple(x, query)


def promotes(sequence, query):
    return simple(sequence, query) * jnp.ones((), jnp.int32)


def forgets_backwards(sequence, query):
    return simple(sequence, query) + (query.time - at_origin(sequence.times, query))[..., None]


def divides_by_what_was_seen(sequence, query):
    seen = jnp.cumsum(sequence.observed, axis=1).astype(jnp.float32)
    return simple(sequence, query) / at_origin(seen, query)


def blind_to_parts_of_a_stack(sequence, query):
    return simple(sequence, query) + (1.0 if type(query.time).__name__ == "BatchTracer" else 0.0)


@pytest.mark.parametrize(
    ("law", "broken"),
    [
        (laws.blind_to_the_future, clairvoyant),
        (laws.blind_to_the_future, counts_visits),
        (laws.deaf_to_what_is_masked, reads_under_the_mask),
        (laws.the_same_in_any_company, normalises_over_the_batch),
        (laws.the_same_in_any_company, counts_padding),
        (laws.the_same_compiled, differs_when_compiled),
        (laws.the_same_in_any_company, knows_the_row),
        (laws.the_same_side_by_side, blind_to_parts_of_a_stack),
        (laws.finite_gradients, breeds_nan),
        (laws.right_gradients, stops_gradients),
        (laws.in_single_precision, promotes),
        (laws.looks_back_as_from_the_origin, forgets_backwards),
        (laws.answers_whoever_was_hardly_seen, divides_by_what_was_seen),
        (laws.sees_how_far_ahead, ignores_the_horizon),
    ],
    ids=lambda f: f.__name__,
)
def test_a_broken_head_is_caught(law, broken):
    law(simple)
    with pytest.raises((AssertionError, jax.dtypes.TypePromotionError)):
        law(broken)
