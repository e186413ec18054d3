import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import pairwise

from framework.baselines.svm.kernels import Kernel, lengths, scale
from framework.errors import UserError

X, Z = (np.random.default_rng(seed).normal(size=(20 + seed, 6)).astype("f4") for seed in (0, 1))
ORACLES = {
    Kernel("linear"): lambda x, z: pairwise.linear_kernel(x, z),
    Kernel("rbf"): lambda x, z: pairwise.rbf_kernel(x, z, 0.3),
    Kernel("poly", 4, 0.5): lambda x, z: pairwise.polynomial_kernel(x, z, 4, 0.3, 0.5),
    Kernel("poly", 0): lambda x, z: np.ones((len(x), len(z))),
    Kernel("sigmoid", coef0=0.5): lambda x, z: pairwise.sigmoid_kernel(x, z, 0.3, 0.5),
}


def matrix(kernel, x, z, gamma=0.3):
    centre = kernel.centre(z, np.ones(len(z), "f4"))
    x, z = x - centre, z - centre
    return kernel.values(kernel.products(x, z), lengths(x), lengths(z), jnp.float32(gamma))


@pytest.mark.parametrize("kernel", ORACLES, ids=str)
def test_values_are_scikit_learns(kernel):
    np.testing.assert_allclose(matrix(kernel, X, Z), ORACLES[kernel](X, Z), rtol=2e-4, atol=2e-5)


def test_far_from_the_origin_distances_do_not_cancel():
    far = (X + 300).astype("f4")
    np.testing.assert_allclose(matrix(Kernel(), far, far), pairwise.rbf_kernel(far.astype("f8"), gamma=0.3), atol=1e-5)


def test_a_precomputed_kernel_is_passed_on():
    kernel = Kernel("precomputed")
    np.testing.assert_array_equal(matrix(kernel, X @ Z.T, np.zeros((21, 21), "f4")), X @ Z.T)


def test_scale_is_of_all_numbers_of_weighted_rows():
    weight = np.array([1, 2] * 10, "f4")
    assert float(scale(X, np.ones(20, "f4"))) == pytest.approx(1 / (6 * X.var()), rel=1e-5)
    assert float(scale(X, weight)) == pytest.approx(1 / (6 * np.repeat(X, weight.astype(int), 0).var()), rel=1e-5)
    assert float(scale(np.ones((4, 2), "f4"), np.ones(4, "f4"))) == 1


@pytest.mark.parametrize("how", [{"kind": "cosine"}, {"kind": "poly", "degree": -1}])
def test_unknown_kernels_are_refused(how):
    with pytest.raises(UserError):
        Kernel(**how)
