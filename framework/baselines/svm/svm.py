"""Support vector machines: C-SVC one against one with probabilities, and ε-SVR.

The matrix of inner products is computed once; kernel values follow from it for any gamma, so that a whole grid over C,
gamma and folds shares it and is one program.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from framework.baselines.base import Estimator
from framework.baselines.svm import nystrom, platt, svm_dual
from framework.baselines.svm.kernels import Kernel, lengths, scale
from framework.errors import UserError
from framework.types import Arr, pytree

GIB = 2**30
BLOCK = 1024  # rows predicted at once


Shared: TypeAlias = tuple[Float[Array, " f"], Float[Array, "n n"] | None]


@pytree
class SVMParams:
    """Fitted parameters: rows (none with a precomputed kernel) and their coefficients in each pair; a line from
    decision to log-odds; classes seen; whether the conditions of all optima hold to the tolerance.
    """

    support_vectors: Float[Array, "n r"]
    centre: Float[Array, " f"]
    gamma: Float[Array, ""]
    beta: Float[Array, "p n"]
    intercept: Float[Array, " p"]
    platt_params: Float[Array, "p 2"]
    classes_seen: Bool[Array, " c"]
    converged: Bool[Array, ""]


@dataclass(frozen=True)
class SVM(Estimator):
    """C-SVC, or ε-SVR where `classes` is 0; the dual is solved to `tolerance` (largest violation, libsvm's measure).

    `gamma` is a number, "scale" (1 / (f var)) or "auto" (1 / f). `class_weight` is None, "balanced" or one number a
    class. `folds` is of the cross-fitting behind probabilities, 0 to do without: then `predict` gives all to the class
    with most votes. Where n² kernel values exceed `memory` bytes, fitting is refused; with `nystrom` components it goes
    on approximately, with a warning and the squared hinge. Missing numbers read as 0.
    """

    classes: int
    C: float | Float[Arr, ""] = 1.0
    epsilon: float | Float[Arr, ""] = 0.1
    gamma: str | float | Float[Arr, ""] = "scale"
    kernel: str = "rbf"
    degree: int = 3
    coef0: float = 0.0
    class_weight: str | Sequence[float] | None = None
    folds: int = 5
    tolerance: float = 1e-3
    memory: int = 4 * GIB
    nystrom: int = 0

    DYNAMIC = ("C", "epsilon", "gamma")

    def __post_init__(self):
        named, weights = isinstance(self.gamma, str), self.class_weight
        if named and self.gamma not in ("scale", "auto"):
            raise UserError(f"gamma {self.gamma!r}; expected a number, 'scale' or 'auto'")
        if isinstance(weights, str) and weights != "balanced":
            raise UserError(f"class_weight {weights!r}; expected 'balanced', one number a class, or none")
        if weights is not None and not isinstance(weights, str) and len(weights) != self.classes:
            raise UserError(f"{len(weights)} class weights for {self.classes} classes; give one a class")
        if self.classes == 1 or self.folds == 1:
            raise UserError(f"{self.classes} classes, {self.folds} folds; expected 0 or at least 2 of each")
        if self._form.kind == "precomputed" and self.nystrom:
            raise UserError("nystrom with a precomputed kernel; landmarks need rows, so give rows and a kernel's name")

    def fit(self, x, observed, y, weight, *, key):
        weight = jnp.asarray(weight, jnp.float32)
        rows = _filled(x, observed, weight)
        return self._learn(rows, self._shared(rows, weight), y, weight, key)[0]

    def fit_many(self, x, observed, y, weights, *, keys, settings=None):
        return self._many(x, observed, y, weights, keys, settings)[0]

    def fit_grid(self, x, observed, y, weight, *, key, settings):
        """All share the inner products."""
        m = len(next(iter(settings.values()), (None,)))
        weights, keys = jnp.broadcast_to(weight, (m, len(weight))), jnp.broadcast_to(key, (m,))
        return self.fit_many(x, observed, y, weights, keys=keys, settings=settings)

    def held_out(
        self,
        x: Float[Arr, "n f"],
        observed: Bool[Arr, "n f"],
        y: Float[Arr, " n"] | Int[Arr, " n"],
        weights: Float[Arr, "m n"],
        *,
        keys: Key[Array, " m"],
        settings: Mapping[str, Float[Arr, " m"]] | None = None,
    ) -> Float[Array, "m n p"]:
        """Decisions of m fits on the rows that each gave no weight (0 at the others): what a grid search needs.

        All share the inner products; no fit copies its rows, and no kernel is computed but where it is looked at.
        """
        return replace(self, folds=0)._many(x, observed, y, weights, keys, settings)[1]

    def predict(self, params, x, observed):
        decisions = self.decision(params, x, observed)
        if not self.classes:
            return decisions
        if not self.folds:
            return jax.nn.one_hot(self.votes(decisions, params.classes_seen).argmax(1), self.classes, dtype=jnp.float32)
        coupled = platt.couple(platt.probability(params.platt_params, decisions), self.classes) * params.classes_seen
        return coupled / jnp.maximum(coupled.sum(1, keepdims=True), platt.TINY)

    def decision(self, params: SVMParams, x: Float[Arr, "t f"], observed: Bool[Arr, "t f"]) -> Float[Array, "t p"]:
        """Decision values of the pairs of classes (0,1), (0,2), ..., (1,2), ..., positive for the second; of SVR, y."""
        kernel, norms, used = self._form, lengths(params.support_vectors), (params.beta != 0).any(0)

        def some(x):
            x = x - params.centre
            products = jnp.where(used, kernel.products(x, params.support_vectors), 0.0)
            values = kernel.values(products, lengths(x), norms, params.gamma)
            return jnp.matmul(values, params.beta.T, precision=lax.Precision.HIGHEST) + params.intercept

        return _by_blocks(some, jnp.where(observed, x, 0).astype(jnp.float32))

    def shortfall(self, params: SVMParams) -> str:
        message = "a support vector machine did not converge; give a smaller C, or standardise the features"
        return "" if np.all(params.converged) else message

    def labels(self, params: SVMParams, x: Float[Arr, "t f"], observed: Bool[Arr, "t f"]) -> Int[Array, " t"]:
        """The class with most votes, the first of equals: what libsvm answers."""
        return self.votes(self.decision(params, x, observed), params.classes_seen).argmax(1).astype(jnp.int32)

    def votes(self, decisions: Float[Arr, "t p"], seen: Bool[Arr, " c"] | None = None) -> Float[Array, "t c"]:
        """The number of pairs that vote for each class; -1 for a class absent from `seen`."""
        first, second = np.triu_indices(self.classes, 1)
        later = (jnp.asarray(decisions) > 0).astype(jnp.float32)
        votes = jnp.zeros((len(decisions), self.classes), jnp.float32)
        votes = votes.at[:, first].add(1 - later).at[:, second].add(later)
        return votes if seen is None else jnp.where(seen, votes, -1.0)

    def approximated(self, n: int) -> str:
        """Why a fit to n rows is approximated, in a line; nothing where it is exact. UserError where it is refused."""
        what = f"the kernel of {n} rows takes {4 * n * n} bytes, `memory` allows {self.memory}"
        if 4 * n * n <= self.memory:
            return ""
        if not self.nystrom:
            raise UserError(f"{what}; raise `memory`, give fewer rows, or set `nystrom` (500, say) to approximate")
        return f"{what}: approximated by {self.nystrom} Nyström components"

    @property
    def _form(self) -> Kernel:
        return Kernel(self.kernel, self.degree, self.coef0)

    def _many(self, x, observed, y, weights, keys, settings):
        weights = jnp.asarray(weights, jnp.float32)
        rows = _filled(x, observed, weights.max(0))
        shared = self._shared(rows, weights.max(0))

        def one(weight, key, own):
            return self.given(own)._learn(rows, shared, y, weight, key)

        own = {name: jnp.asarray(value, jnp.float32) for name, value in (settings or {}).items()}
        if shared[1] is None:  # one after another: each makes features of its own
            return lax.map(lambda lane: one(*lane), (weights, keys, own))
        return jax.vmap(one)(weights, keys, own)

    def _shared(self, rows: Float[Arr, "n f"], weight: Float[Arr, " n"]) -> Shared:
        """Return the vector subtracted from the rows of all fits, and their inner products if they fit in memory."""
        n, f = rows.shape
        if n == 0 or (self.kernel == "precomputed" and n != f):
            raise UserError(f"{n} rows of {f} numbers; expected 1 row or more, of a precomputed kernel as many as rows")
        centre = self._form.centre(rows, weight)
        if message := self.approximated(n):
            warnings.warn(message, stacklevel=3)
            return centre, None
        return centre, self._form.products(rows - centre, rows - centre)

    def _learn(self, rows, shared: Shared, y, weight: Float[Array, " n"], key) -> tuple[SVMParams, Float[Array, "n p"]]:
        """The machine, and the decisions on rows without weight."""
        (centre, gram), gamma, used = shared, self._gamma(rows, weight), weight > 0
        problems, seen = self._problems(y, weight)
        p = len(problems.linear)
        part = problems.low < problems.high
        out = platt.folds(key, y, weight, self.folds) if self.classes else []
        kept = jnp.repeat(~jnp.stack([jnp.zeros_like(used), *out]), p, axis=0)
        wanted = jnp.concatenate([jnp.broadcast_to(~used, part.shape), *(part & rows for rows in out)])
        many = [jnp.tile(bound, (len(out) + 1, 1)) for bound in (problems.linear, problems.low, problems.high)]
        every = svm_dual.Problems(many[0], many[1] * kept, many[2] * kept, problems.epsilon)
        if gram is None:
            rows, beta, offset, decisions, solved = self._approximate(rows - centre, weight, gamma, every, key)
        else:
            found = svm_dual.solve(self._form, self.tolerance, gram, gamma, every)
            beta, offset, solved = found.beta, found.offset, (found.gap <= 2 * self.tolerance).all()
            decisions = svm_dual.sums(self._form, gram, gamma, beta, wanted) + offset[:, None]
            rows = jnp.where(used[:, None], rows - centre, 0)[:, : 0 if self.kernel == "precomputed" else None]
        decisions = jnp.where(wanted, decisions, 0.0)
        platt_params = jnp.zeros((p, 2), jnp.float32)
        if out:
            apart = decisions[p:].reshape(len(out), p, -1).sum(0)
            platt_params = jax.vmap(platt.calibrate)(apart, problems.high > 0, weight * part)
        return SVMParams(rows, centre, gamma, beta[:p], offset[:p], platt_params, seen, solved), decisions[:p].T

    def _approximate(self, rows, weight, gamma, problems, key):
        at = nystrom.landmarks(key, weight, self.nystrom)
        known = (weight[at] > 0).astype(jnp.float32)
        marks = rows[at] * known[:, None]
        return marks, *nystrom.solve(self._form, rows, marks, known, gamma, problems)

    def _problems(self, y, weight: Float[Array, " n"]) -> tuple[svm_dual.Problems, Bool[Array, " c"]]:
        """One problem for each pair of classes, boxes of width C, weight and class weight; or the one of a number."""
        if not self.classes:
            bound = (self.C * weight)[None]
            target = jnp.where(weight > 0, y, 0).astype(jnp.float32)[None]
            return svm_dual.Problems(-target, -bound, bound, jnp.asarray(self.epsilon, jnp.float32)), jnp.ones(0, bool)
        member = jnp.asarray(y)[None] == jnp.arange(self.classes)[:, None]
        counts = member @ weight
        seen = counts > 0
        each = jnp.ones(self.classes, jnp.float32)
        if self.class_weight == "balanced":
            each = jnp.where(seen, weight.sum() / (seen.sum() * jnp.where(seen, counts, 1.0)), 0.0)
        elif self.class_weight is not None:
            each = jnp.asarray(self.class_weight, jnp.float32)
        bound = self.C * weight * (each @ member)
        first, second = np.triu_indices(self.classes, 1)
        low, high = -bound * member[first], bound * member[second]
        sign = member[first].astype(jnp.float32) - member[second]
        return svm_dual.Problems(sign, low, high, jnp.float32(0)), seen

    def _gamma(self, rows: Float[Array, "n f"], weight: Float[Array, " n"]) -> Float[Array, ""]:
        if not isinstance(self.gamma, str):
            return jnp.asarray(self.gamma, jnp.float32)
        return scale(rows, weight) if self.gamma == "scale" else jnp.float32(1 / rows.shape[1])


def _filled(x: Float[Arr, "n f"], observed: Bool[Arr, "n f"], weight: Float[Arr, " n"]) -> Float[Array, "n f"]:
    """Return x with zeros where nothing was observed, and in rows without weight."""
    return jnp.where(observed & (weight > 0)[:, None], x, 0).astype(jnp.float32)


def _by_blocks(answer: Callable[[Array], Array], x: Float[Array, "t f"]) -> Float[Array, "t p"]:
    """As `answer(x)`, but never for more than a block of rows at once: memory does not grow with t."""
    t = len(x)
    if t <= BLOCK:
        return answer(x)
    blocks = jnp.pad(x, ((0, -t % BLOCK), (0, 0))).reshape(-1, BLOCK, x.shape[1])
    return lax.map(answer, blocks).reshape(-t // BLOCK * -BLOCK, -1)[:t]
