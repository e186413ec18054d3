from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.svm import SVC, SVR

from framework.baselines.native import svm as native
from framework.baselines.svm import svm_dual, svm_smo
from framework.baselines.svm.kernels import Kernel, lengths

TOLERANCE = 1e-3
needs_native = pytest.mark.skipif(not native.available(), reason="no C++ compiler, or PROGNAX_NATIVE=0")
FORMS = [pytest.param(native.solve, marks=needs_native, id="native"), pytest.param(svm_smo.solve, id="xla")]
KERNELS = [Kernel("linear"), Kernel("rbf"), Kernel("poly", 2, 1.0), Kernel("precomputed")]


def rows(n=90, f=5, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, f)).astype("f4")
    return x, np.sign(x[:, 0] * x[:, 1] + 0.3 * x[:, 2] + 0.2).astype("f4")


def classification(y, bound):
    return svm_dual.Problems(
        -y[None], np.where(y < 0, -bound, 0)[None], np.where(y > 0, bound, 0)[None], jnp.float32(0)
    )


def regression(y, bound, epsilon):
    bound = np.broadcast_to(np.float32(bound), (1, len(y)))
    return svm_dual.Problems(-y[None], -bound, bound, jnp.float32(epsilon))


@partial(jax.jit, static_argnums=(0, 1))
def compiled(form, kernel, gram, gamma, *of):
    return form(kernel, TOLERANCE, gram, gamma, *of)


def solved(form, kernel, x, gamma, problems):
    of = (problems.linear, problems.low, problems.high, problems.epsilon)
    return svm_dual.Solution(*compiled(form, kernel, x @ x.T, jnp.float32(gamma), *of))


def values(kernel, x, gamma):
    return np.asarray(kernel.values(jnp.asarray(x @ x.T), lengths(x), lengths(x), jnp.float32(gamma)), "f8")


def objective(kernel_values, beta, problems, p=0):
    return float(0.5 * beta @ kernel_values @ beta + problems.linear[p] @ beta + problems.epsilon * np.abs(beta).sum())


def violation(kernel_values, beta, problems, p=0):
    """m(β) - M(β) from scratch, in double precision."""
    gradient = kernel_values @ beta + problems.linear[p]
    rise = -(gradient + np.where(beta >= 0, problems.epsilon, -problems.epsilon))
    cost = -(gradient + np.where(beta > 0, problems.epsilon, -problems.epsilon))
    return max(0, rise[beta < problems.high[p]].max() - cost[beta > problems.low[p]].min())


def check(form, kernel, x, gamma, problems, peer):
    found = solved(form, kernel, x, gamma, problems)
    beta, theirs = np.asarray(found.beta[0], "f8"), np.zeros(len(x))
    theirs[peer.support_] = peer.dual_coef_[0]
    k = values(kernel, x, gamma)
    assert objective(k, beta, problems) == pytest.approx(objective(k, theirs, problems), rel=1e-4)
    assert violation(k, beta, problems) < 1.05 * TOLERANCE
    assert float(found.gap[0]) < TOLERANCE
    assert float(found.offset[0]) == pytest.approx(peer.intercept_[0], abs=4e-3)
    assert abs(beta.sum()) < 1e-4
    assert ((beta >= problems.low[0]) & (beta <= problems.high[0])).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.kind)
def test_classes_reach_libsvms_objective(form, kernel):
    x, y = rows()
    given = x @ x.T if kernel.kind == "precomputed" else x
    peer = SVC(C=2.0, kernel=kernel.kind, gamma=0.3, degree=kernel.degree, coef0=kernel.coef0).fit(given, y)
    check(form, kernel, x, 0.3, classification(y, np.float32(2)), peer)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.kind)
def test_numbers_reach_libsvms_objective(form, kernel):
    x, _ = rows()
    y = np.sin(x[:, 0]) + x[:, 1] ** 2
    given = x @ x.T if kernel.kind == "precomputed" else x
    how = {"kernel": kernel.kind, "gamma": 0.3, "degree": kernel.degree, "coef0": kernel.coef0}
    peer = SVR(C=2.0, epsilon=0.1, **how).fit(given, y)
    check(form, kernel, x, 0.3, regression(y, 2.0, 0.1), peer)


@pytest.mark.parametrize("form", FORMS)
def test_weights_bound_each_variable(form):
    x, y = rows()
    weight = np.random.default_rng(1).uniform(0, 2, len(y)).astype("f4")
    peer = SVC(C=1.5, gamma=0.3).fit(x, y, weight)
    check(form, Kernel(), x, 0.3, classification(y, 1.5 * weight), peer)


@needs_native
@settings(max_examples=15)
@given(seed=st.integers(0, 99), bound=st.floats(0.01, 50), gamma=st.floats(0.01, 3), epsilon=st.floats(0, 1))
def test_both_forms_find_the_same(seed, bound, gamma, epsilon):
    x, y = rows(60, seed=seed)
    number = (y + x[:, 3]).astype("f4")
    both = [classification(y, np.float32(bound)), regression(number, bound, epsilon)]
    for problems in both:
        here, there = (solved(form, Kernel(), x, gamma, problems) for form in (native.solve, svm_smo.solve))
        k = values(Kernel(), x, gamma)
        ours = [objective(k, np.asarray(found.beta[0], "f8"), problems) for found in (here, there)]
        assert ours[0] == pytest.approx(ours[1], rel=1e-4, abs=1e-4)
        answers = [k @ np.asarray(found.beta[0], "f8") + float(found.offset[0]) for found in (here, there)]
        np.testing.assert_allclose(answers[0], answers[1], atol=0.02 * max(1, bound))


@needs_native
def test_a_large_box_is_solved_to_the_tolerance():
    x, y = rows(120)
    y = np.where(np.random.default_rng(0).random(120) < 0.2, -y, y).astype("f4")
    problems = classification(y, np.float32(1e4))
    found = solved(native.solve, Kernel(), x, 0.05, problems)
    assert int(found.steps[0]) > 3000
    assert violation(values(Kernel(), x, 0.05), np.asarray(found.beta[0], "f8"), problems) < 0.02


@pytest.mark.parametrize("form", FORMS)
def test_rows_with_an_empty_box_take_no_part(form):
    x, y = rows()
    out = np.arange(90) % 3 == 0
    bound = np.where(out, 0, 1).astype("f4")
    other = np.where(out[:, None], 7.0, x).astype("f4")
    here, there = (solved(form, Kernel(), z, 0.3, classification(y, bound)) for z in (x, other))
    jax.tree.map(np.testing.assert_array_equal, here, there)
    assert not np.asarray(here.beta)[0, out].any()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("left", "offset"), [("none", 0), ("above", 1), ("below", -1)])
def test_a_problem_of_one_side_answers_with_that_side(form, left, offset):
    x, y = rows()
    keep = {"none": y > 9, "above": y > 0, "below": y < 0}[left]
    found = solved(form, Kernel(), x, 0.3, classification(y, keep.astype("f4")))
    assert not np.asarray(found.beta).any()
    assert float(found.offset[0]) == offset
    assert float(found.gap[0]) == 0


@needs_native
@pytest.mark.parametrize("axes", [(0, None, None), (None, 0, None), (None, 0, 0), (0, 0, 0)], ids=str)
def test_lanes_are_single_calls_whatever_is_mapped(axes):
    x, y = rows(40)
    grams = np.stack([x @ x.T, 2 * x @ x.T])
    gammas = np.array([0.1, 0.7], "f4")
    bounds = np.array([0.5, 2.0], "f4")

    def solve(gram, gamma, bound):
        side = jnp.stack([y, -y])
        problems = (-side, jnp.where(side < 0, -bound, 0.0), jnp.where(side > 0, bound, 0.0), jnp.float32(0))
        found = native.solve(Kernel(), TOLERANCE, gram, gamma, *problems)
        return *found, native.sums(Kernel(), gram, gamma, found[0], jnp.ones((2, 40), bool))

    inputs = [jnp.asarray(a if axis == 0 else a[0]) for a, axis in zip((grams, gammas, bounds), axes, strict=True)]
    many = jax.jit(jax.vmap(solve, in_axes=axes))(*inputs)
    for lane in range(2):
        one = solve(*(a[lane] if axis == 0 else a for a, axis in zip(inputs, axes, strict=True)))
        mine = [part[lane] for part in many]
        jax.tree.map(np.testing.assert_array_equal, mine, list(one))


@needs_native
@pytest.mark.parametrize("kernel", [*KERNELS, Kernel("sigmoid", coef0=0.5)], ids=lambda kernel: kernel.kind)
def test_sums_are_the_kernel_times_the_coefficients(kernel):
    x, _ = rows(50)
    rng = np.random.default_rng(0)
    beta = np.where(rng.random((3, 50)) < 0.5, rng.normal(size=(3, 50)), 0).astype("f4")
    wanted = rng.random((3, 50)) < 0.7
    found = native.sums(kernel, x @ x.T, jnp.float32(0.3), beta, wanted)
    np.testing.assert_allclose(found, np.where(wanted, beta @ values(kernel, x, 0.3), 0), rtol=1e-4, atol=1e-4)


def test_without_native_code_lanes_are_solved_in_turn(monkeypatch):
    monkeypatch.setattr(native, "available", lambda: False)
    x, y = rows(40)
    problems = classification(y, np.float32(1))

    def solve(gamma):
        found = svm_dual.solve(Kernel(), TOLERANCE, jnp.asarray(x @ x.T), gamma, problems)
        return found.beta, svm_dual.sums(Kernel(), jnp.asarray(x @ x.T), gamma, found.beta, np.ones((1, 40), bool))

    betas, sums = jax.jit(jax.vmap(solve))(np.array([0.1, 0.5], "f4"))
    for gamma, beta, found in zip((0.1, 0.5), betas, sums, strict=True):
        k = values(Kernel(), x, gamma)
        assert violation(k, np.asarray(beta[0], "f8"), problems) < 1.05 * TOLERANCE
        np.testing.assert_allclose(found[0], k @ np.asarray(beta[0], "f8"), atol=1e-4)
