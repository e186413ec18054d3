"""The native solver of support vector machines as JAX functions; float32, leading axes are those of vmap."""

from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from framework import native
from framework.baselines.svm.kernels import Kernel
from framework.types import Arr

SOURCE = Path(__file__).with_name("svm.cc")
TARGETS = ("svm_solve", "svm_sums")
KINDS = {"linear": 0, "precomputed": 0, "rbf": 1, "poly": 2, "sigmoid": 3}


@cache
def available() -> bool:
    """Whether the kernels can be called; compiles and registers them at the first question."""
    return native.register(SOURCE, TARGETS)


def solve(
    kernel: Kernel,
    tolerance: float,
    gram: Float[Arr, "n n"],
    gamma: Float[Arr, ""],
    linear: Float[Arr, "p n"],
    low: Float[Arr, "p n"],
    high: Float[Arr, "p n"],
    epsilon: Float[Arr, ""],
) -> tuple[Float[Array, "p n"], Float[Array, " p"], Float[Array, " p"], Int[Array, " p"]]:
    """Coefficients, offset, violation and steps of each problem of `framework.baselines.svm.svm_dual`."""
    p, n = linear.shape
    made = [((p, n), jnp.float32), ((p,), jnp.float32), ((p,), jnp.float32), ((p,), jnp.int32)]
    call = _call("solve", [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in made])
    return tuple(call(gram, gamma, linear, low, high, epsilon, tolerance=np.float32(tolerance), **_how(kernel)))


def sums(
    kernel: Kernel, gram: Float[Arr, "n n"], gamma: Float[Arr, ""], beta: Float[Arr, "p n"], wanted: Bool[Arr, "p n"]
) -> Float[Array, "p n"]:
    """The kernel times the coefficients, at the wanted rows; 0 at the others."""
    return _call("sums", jax.ShapeDtypeStruct(beta.shape, jnp.float32))(gram, gamma, beta, wanted, **_how(kernel))


def _call(name: str, made):
    return jax.ffi.ffi_call(f"prognax_svm_{name}", made, vmap_method="expand_dims")


def _how(kernel: Kernel) -> dict:
    return {
        "kind": np.int64(KINDS[kernel.kind]),
        "degree": np.int64(kernel.degree),
        "coef0": np.float32(kernel.coef0),
    }
