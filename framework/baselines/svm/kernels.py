"""Kernels of support vector machines, as functions of inner products: one matrix product serves every gamma."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from framework.errors import UserError
from framework.types import Arr


@dataclass(frozen=True)
class Kernel:
    """linear <x,z>, rbf exp(-gamma |x-z|²), poly (gamma <x,z> + coef0)^degree, sigmoid tanh(gamma <x,z> + coef0), or
    precomputed: the rows are the kernel's own.
    """

    kind: str = "rbf"
    degree: int = 3
    coef0: float = 0.0

    KINDS: ClassVar[tuple[str, ...]] = ("linear", "rbf", "poly", "sigmoid", "precomputed")

    def __post_init__(self):
        if self.kind not in self.KINDS:
            raise UserError(f"kernel {self.kind!r}; expected one of {', '.join(self.KINDS)}")
        if self.degree < 0 or self.degree % 1:
            raise UserError(f"degree {self.degree}; a polynomial kernel takes a whole number, 0 or more")

    def products(self, x: Float[Arr, "t f"], rows: Float[Arr, "n _"]) -> Float[Array, "t n"]:
        """Arguments of the kernel: inner products, or for precomputed x itself."""
        if self.kind == "precomputed":
            return jnp.asarray(x)
        return jnp.matmul(x, jnp.asarray(rows).T, precision=lax.Precision.HIGHEST)

    def centre(self, x: Float[Arr, "n f"], weight: Float[Arr, " n"]) -> Float[Array, " f"]:
        """The vector to subtract from x: the mean for rbf, against cancellation in squared distances; else zero."""
        if self.kind != "rbf":
            return jnp.zeros(x.shape[1], jnp.float32)
        used = (jnp.asarray(weight) > 0).astype(jnp.float32)
        return used @ x / jnp.maximum(used.sum(), 1)

    def values(
        self, products: Float[Array, "t n"], left: Float[Arr, " t"], right: Float[Arr, " n"], gamma: Float[Arr, ""]
    ) -> Float[Array, "t n"]:
        """The kernel, from inner products and the squared lengths of what was multiplied."""
        if self.kind == "rbf":
            return jnp.exp(-gamma * jnp.maximum((left[:, None] - products) + (right - products), 0.0))
        if self.kind == "poly":
            return (products * gamma + self.coef0) ** int(self.degree)
        if self.kind == "sigmoid":
            return jnp.tanh(products * gamma + self.coef0)
        return products


def lengths(x: Float[Arr, "n f"]) -> Float[Array, " n"]:
    """Squared."""
    return (jnp.asarray(x) ** 2).sum(1)


def scale(x: Float[Arr, "n f"], weight: Float[Arr, " n"]) -> Float[Array, ""]:
    """Gamma such that features on any one scale do as well: 1 / (f var), over all numbers of all weighted rows.

    With weights of one this is scikit-learn's "scale"; scikit-learn leaves the weights out.
    """
    share = weight / jnp.maximum(weight.sum(), jnp.finfo(x.dtype).tiny)
    mean = (share @ x).mean()
    variance = (share @ (x - mean) ** 2).mean()
    return jnp.where(variance > 0, 1 / (x.shape[1] * jnp.where(variance > 0, variance, 1.0)), 1.0)
