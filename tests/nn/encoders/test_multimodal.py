"""Whatever is brought together is what is present, and nothing else."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from framework.nn.encoders.multimodal import Attention, Concatenate, Mean
from tests.contracts.recipes import config, instantiate, names

pytestmark = pytest.mark.long

SIZES = (3, 5, 2)
SUBSETS = np.array(list(product([False, True], repeat=3)))[:, None, :]  # (8 subjects, 1 visit, 3 modalities)


def embedded(seed: int = 0) -> list[jax.Array]:
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=(8, 1, size)), jnp.float32) for size in SIZES]


def made(fusion):
    graph, state = nnx.split(fusion(sizes=SIZES, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(1)
    return nnx.merge(graph, jax.tree.map(lambda x: x + 0.5 * rng.normal(size=x.shape).astype(np.float32), state))


@pytest.fixture(scope="module", params=names("model/fusion"))
def fusion(request):
    return made(instantiate(config("model=deep", f"model/fusion={request.param}").model.fusion, _convert_="all"))


def test_any_subset_can_be_present_and_what_is_absent_is_never_read(fusion):
    x, known = jax.jit(fusion)(embedded(), jnp.asarray(SUBSETS))
    assert x.shape == known.shape == (8, 1, fusion.out_features)
    junk = [jnp.where(SUBSETS[..., m, None], e, 1e6) for m, e in enumerate(embedded())]
    again, _ = jax.jit(fusion)(junk, jnp.asarray(SUBSETS))
    np.testing.assert_array_equal(np.asarray(x)[known], np.asarray(again)[known])
    assert not known[0].any()
    assert known[7].all()
    assert known[1:].any(-1).all()


def test_gradients_are_finite_even_where_nothing_is_present(fusion):
    graph, state = nnx.split(fusion)

    def total(state, parts):
        x, known = nnx.merge(graph, state)(parts, jnp.asarray(SUBSETS))
        return (jnp.where(known, x, 0) ** 2).sum()

    slopes = jax.jit(jax.grad(total, (0, 1)))(state, embedded())
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
    for m, slope in enumerate(slopes[1]):
        absent = ~SUBSETS[:, 0, m]
        assert not np.asarray(slope)[absent].any()
        assert np.asarray(slope)[~absent].any()


def test_the_mean_is_over_those_present():
    mean = made(partial(Mean, 4))
    x, _ = jax.jit(mean)(embedded(), jnp.asarray(SUBSETS))
    projected = [np.asarray(p(e)) for p, e in zip(mean.projections, embedded(), strict=True)]
    for row, subset in enumerate(SUBSETS[1:, 0], start=1):
        expected = np.mean([projected[m][row] for m in np.flatnonzero(subset)], 0)
        np.testing.assert_allclose(x[row], expected, rtol=1e-5, atol=1e-6)


def test_attention_starts_as_the_mean_and_weighs_by_content_later():
    fresh, plain = (kind(4, sizes=SIZES, rngs=nnx.Rngs(0)) for kind in (Attention, Mean))
    for one, other in zip(*(jax.jit(kind)(embedded(), jnp.asarray(SUBSETS)) for kind in (fresh, plain)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    taught = made(partial(Attention, 4))
    projected = jnp.stack([p(e) for p, e in zip(taught.projections, embedded(), strict=True)], 2)
    weights = np.asarray(taught.weights(projected, jnp.asarray(SUBSETS)))
    np.testing.assert_allclose(weights.sum(-1)[1:], 1, rtol=1e-6)
    assert not weights[~SUBSETS].any()
    assert np.ptp(weights[7]) > 0.01


def test_side_by_side_each_keeps_its_mask():
    x, known = Concatenate(sizes=SIZES, rngs=nnx.Rngs(0))(embedded(), jnp.asarray(SUBSETS))
    np.testing.assert_array_equal(x, np.concatenate(embedded(), -1))
    np.testing.assert_array_equal(known, np.repeat(SUBSETS, SIZES, axis=-1))
