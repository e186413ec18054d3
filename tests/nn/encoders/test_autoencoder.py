"""Codes and what is drawn from them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.integrate import quad
from scipy.stats import norm

from framework.errors import UserError
from framework.nn.encoders.autoencoder import Autoencoder, Convolutional, Decoder, Variational

pytestmark = pytest.mark.long

ENCODER, DECODER = partial(Convolutional, [3, 4], 6), partial(Decoder, [4, 3])


@pytest.mark.parametrize("grid", [(7, 5, 6, 2), (8, 8, 8, 1), (9, 6, 1)])
def test_a_code_is_drawn_on_the_grid_it_came_from(grid):
    decoder = DECODER(d_in=6, grid=grid, rngs=nnx.Rngs(0))
    assert jax.eval_shape(decoder, jnp.ones((2, 6))).shape == (2, *grid)


def test_each_voxel_answers_the_code_so_that_nothing_is_left_out():
    decoder = DECODER(d_in=6, grid=(7, 5, 1), rngs=nnx.Rngs(0))
    drawn = jax.jit(decoder)(jnp.asarray(np.random.default_rng(0).normal(size=(20, 6)), jnp.float32))
    assert (np.asarray(drawn).std(0) > 0).all()


def test_the_error_is_that_of_what_was_drawn_beside_the_mean():
    built = Autoencoder(ENCODER, DECODER, grid=(8, 8, 1), rngs=nnx.Rngs(0))
    scans = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype(np.float32)
    error, cost = jax.jit(built)(scans, scans[0])
    drawn = scans[0] + np.asarray(jax.jit(lambda scans: built.decoder(built.encoder(scans)))(scans))
    np.testing.assert_allclose(error, ((drawn - scans) ** 2).mean((1, 2, 3)), rtol=1e-5)
    assert not np.asarray(cost).any()


def variational():
    return Variational(ENCODER, 2, 3.0, grid=(8, 8, 1), rngs=nnx.Rngs(0))


def test_a_variational_code_costs_its_divergence_from_the_standard_normal():
    built = variational()
    built.log_variance.bias[...] = jnp.array([-1.0, 0.5])
    scans = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    _, cost = jax.jit(lambda scans: built.code(scans, None))(scans)

    def divergence(mean: float, sd: float) -> float:
        def excess(z: float) -> float:
            return float(norm.pdf(z, mean, sd) * (norm.logpdf(z, mean, sd) - norm.logpdf(z)))

        return quad(excess, mean - 9 * sd, mean + 9 * sd)[0]

    sds = np.exp(np.array([-1.0, 0.5]) / 2)
    for mean, told in zip(np.asarray(jax.jit(built)(scans)), cost, strict=True):
        expected = sum(divergence(float(m), float(s)) for m, s in zip(mean, sds, strict=True))
        assert told == pytest.approx(3 * expected / 64, rel=1e-4)


def test_a_key_draws_codes_around_the_embedding():
    built = variational()
    scan = np.ones((1, 8, 8, 1), np.float32)
    keys = jax.random.split(jax.random.key(0), 2000)
    drawn = np.asarray(jax.jit(jax.vmap(lambda key: built.code(scan, key)[0][0]))(keys))
    still, embedding = jax.jit(lambda scan: (built.code(scan, None)[0], built(scan)))(scan)
    np.testing.assert_allclose(drawn.mean(0), embedding[0], atol=0.1)
    np.testing.assert_allclose(drawn.std(0), 1, atol=0.1)
    np.testing.assert_array_equal(still, embedding)


def test_a_grid_too_small_for_the_decoder_is_told():
    with pytest.raises(UserError, match="at least 16 voxels a side, and they have 8×8×8"):
        Decoder([4, 4, 4, 4], d_in=6, grid=(8, 8, 8, 1), rngs=nnx.Rngs(0))
