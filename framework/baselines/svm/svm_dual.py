"""The dual of support vector machines, one form for all, on one matrix of inner products.

    minimise ½ βᵀKβ + linearᵀβ + ε|β|₁   subject to   Σβ = 0,  low ≤ β ≤ high

Classification: linear = -y, ε = 0, a box to one side of zero. Regression: linear = -y, a box around zero. So β is
signed (libsvm's `dual_coef`), and regression needs n variables, not 2n. A variable whose box is empty takes no part.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Bool, Float, Int

from framework.baselines.native import svm as native
from framework.baselines.svm import svm_smo
from framework.baselines.svm.kernels import Kernel
from framework.types import Arr, pytree


@pytree
class Problems:
    """p problems over the same n rows."""

    linear: Float[Arr, "p n"]
    low: Float[Arr, "p n"]
    high: Float[Arr, "p n"]
    epsilon: Float[Arr, ""]


@pytree
class Solution:
    """Coefficients and offset of each: f(x) = Σ β k(x, row) + offset; by how much the conditions of an optimum are
    violated still; in how many steps.
    """

    beta: Float[Array, "p n"]
    offset: Float[Array, " p"]
    gap: Float[Array, " p"]
    steps: Int[Array, " p"]


def solve(
    kernel: Kernel, tolerance: float, gram: Float[Arr, "n n"], gamma: Float[Arr, ""], problems: Problems
) -> Solution:
    """Each problem to the tolerance: the largest violation m(β) - M(β), as libsvm's.

    On CPUs in C++ where it can be compiled, else by blocks in XLA.
    """
    arrays = (gram, gamma, problems.linear, problems.low, problems.high, problems.epsilon)
    by_xla = sequential_vmap(partial(svm_smo.solve, kernel, tolerance))  # one matrix of kernel values at a time
    return Solution(*_either(partial(native.solve, kernel, tolerance), by_xla, arrays))


def sums(
    kernel: Kernel, gram: Float[Arr, "n n"], gamma: Float[Arr, ""], beta: Float[Arr, "p n"], wanted: Bool[Arr, "p n"]
) -> Float[Array, "p n"]:
    """The kernel times the coefficients at the rows that each problem wants, 0 at the others."""

    @sequential_vmap
    def by_xla(gram, gamma, beta, wanted):
        norms = jnp.diagonal(gram)
        return jnp.where(wanted, beta @ kernel.values(gram, norms, norms, gamma), 0.0)

    return _either(partial(native.sums, kernel), by_xla, (gram, gamma, beta, wanted))


def _either(by_native, by_xla, arrays: tuple[Arr, ...]) -> Any:
    if not native.available():
        return by_xla(*arrays)
    return jax.lax.platform_dependent(*arrays, cpu=by_native, default=by_xla)
