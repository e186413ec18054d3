"""Cox's proportional hazards: how features multiply the rate of an event whose time may be censored."""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.linalg import cho_solve
from jaxtyping import Array, Bool, Float, Key

from framework.baselines.linear.base import Linear, gram_of, outputs, standard
from framework.baselines.linear.newton import newton
from framework.types import Arr, pytree


@pytree
class Survival:
    """Follow-up of each row in years, and whether it ended with the event."""

    time: Float[Arr, " n"]
    event: Bool[Arr, " n"]


@pytree
class CoxParams:
    """Log hazard ratios, and the hazard of a row of relative hazard 1 that had accumulated by each time, ascending."""

    linear: Linear
    time: Float[Array, "*m n"]
    hazard: Float[Array, "*m n"]


@dataclass(frozen=True)
class Cox:
    """Minimises -(log partial likelihood) + penalty |b|² / 2, ties after Efron or Breslow.

    Not an Estimator: what it learns from is a Survival, what it tells is a relative hazard or a curve; in all else
    (weights, masks, keys, DYNAMIC) it keeps that contract. Solved by Newton's method until no component of the mean
    gradient, features in standard coordinates, exceeds `tolerance`. What is missing counts as 0.
    """

    penalty: float | Float[Arr, ""] = 0.0
    efron: bool = True
    tolerance: float = 1e-7
    steps: int = 100
    DYNAMIC = ("penalty",)

    def fit(
        self,
        x: Float[Arr, "n f"],
        observed: Bool[Arr, "n f"],
        survival: Survival,
        weight: Float[Arr, " n"],
        *,
        key: Key[Array, ""],
    ) -> CoxParams:
        penalties = jnp.asarray(self.penalty, jnp.result_type(float))[None]
        return jax.tree.map(lambda leaf: leaf[0], self.path(x, observed, survival, weight, penalties))

    def path(
        self,
        x: Float[Arr, "n f"],
        observed: Bool[Arr, "n f"],
        survival: Survival,
        weight: Float[Arr, " n"],
        penalties: Float[Arr, " k"],
    ) -> CoxParams:
        """The fits for all penalties on a leading axis, each started from that of the next larger one."""
        with jax.default_matmul_precision("highest"):
            return _path(self.efron, self.tolerance, self.steps, x, observed, survival, weight, penalties)

    def fit_many(
        self,
        x: Float[Arr, "n f"],
        observed: Bool[Arr, "n f"],
        survival: Survival,
        weights: Float[Arr, "m n"],
        *,
        keys: Key[Array, " m"],
        settings: dict[str, Float[Arr, " m"]] | None = None,
    ) -> CoxParams:
        """Lane by lane what `fit` gives."""

        def one(weight: Arr, key: Array, own: dict) -> CoxParams:
            return replace(self, **own).fit(x, observed, survival, jnp.asarray(weight), key=key)

        return jax.vmap(one)(weights, keys, settings or {})

    def predict(self, params: CoxParams, x: Float[Arr, "n f"], observed: Bool[Arr, "n f"]) -> Float[Array, "n 1"]:
        """The log hazard relative to the training mean."""
        return outputs(params.linear, x, observed)

    def shortfall(self, params: CoxParams) -> str:
        """As of `Estimator`."""
        return "" if np.all(params.linear.converged) else "Cox regression did not converge; give a larger penalty"

    def loss(
        self,
        params: CoxParams,
        x: Float[Arr, "n f"],
        observed: Bool[Arr, "n f"],
        survival: Survival,
        weight: Float[Arr, " n"],
    ) -> Float[Array, ""]:
        """-(log partial likelihood) of these rows, whichever were learnt from."""
        total = jnp.sum(weight)
        share = jnp.asarray(weight) / total
        order = _ordered(survival, share, self.efron)
        score = self.predict(params, x, observed)[:, 0]
        return total * (_loss(score[order.by], share[order.by], order) + jnp.log(total) * order.share.sum())

    def curve(
        self, params: CoxParams, x: Float[Arr, "n f"], observed: Bool[Arr, "n f"], times: Float[Arr, " t"]
    ) -> Float[Array, "n t"]:
        """The probability that the event has not come by each time; flat beyond the last one seen."""
        at = jnp.searchsorted(params.time, times, side="right") - 1
        hazard = jnp.where(at >= 0, params.hazard[jnp.maximum(at, 0)], 0)
        return jnp.exp(-hazard * jnp.exp(self.predict(params, x, observed)))


@pytree
class _Order:
    """Rows by falling time. `last` is where the rows of a row's time end, `early` the share of its tied deaths that
    count as gone before it (0 after Breslow), `share` the mean weight of those deaths where the row is one, else 0.
    """

    by: Array
    last: Array
    tie: Array
    early: Array
    share: Array
    event: Array


@partial(jax.jit, static_argnums=(0, 1, 2))
def _path(efron: bool, tolerance: float, steps: int, x, observed, survival: Survival, weight, penalties) -> CoxParams:
    table = standard(x, observed, weight)
    order = _ordered(survival, table.share, efron)
    z, share = table.z[order.by], table.share[order.by]
    gram = gram_of(z, share)

    def fit(at: Array, penalty: Array) -> tuple[Array, tuple[Array, Array]]:
        l2 = penalty / table.total / table.scale**2

        def objective(at: Array) -> Array:
            return _loss(z @ at, share, order) + (l2 * at**2).sum() / 2

        guard = 4 * len(gram) * jnp.finfo(gram.dtype).eps * jnp.maximum(jnp.diag(gram), 1e-6)
        factor = jnp.linalg.cholesky(gram + jnp.diag(guard + l2))
        at, solved = newton(objective, at, lambda right: cho_solve((factor, True), right), tolerance, steps)
        return at, (at, solved)

    sequence = jnp.argsort(-penalties)
    each = lax.scan(fit, jnp.zeros_like(table.scale), penalties[sequence])[1]
    found, solved = (jnp.zeros_like(part).at[sequence].set(part) for part in each)

    def params(at: Array, solved: Array) -> CoxParams:
        at_risk, peak = _at_risk(z @ at, share, order)
        step = jnp.where(order.share > 0, order.share / jnp.where(order.share > 0, at_risk, 1), 0) * jnp.exp(-peak)
        time = jnp.where(share > 0, survival.time[order.by], -jnp.inf)
        return CoxParams(table.back(jnp.zeros(1), at[:, None], solved), time[::-1], jnp.cumsum(step[::-1]))

    return jax.vmap(params)(found, solved)


def _ordered(survival: Survival, share: Array, efron: bool) -> _Order:
    time = jnp.where(share > 0, survival.time, -jnp.inf)  # rows that weigh nothing come last, at risk of nothing
    by = jnp.argsort(-time)
    time, share = time[by], share[by]
    event = survival.event[by] & (share > 0)
    last = jnp.searchsorted(-time, -time, side="right") - 1
    first = jnp.searchsorted(-time, -time, side="left")
    tie = first
    count = jax.ops.segment_sum(event.astype(share.dtype), tie, len(time))[tie]
    before = jnp.cumsum(event)
    rank = (before - 1 - jnp.where(first > 0, before[jnp.maximum(first - 1, 0)], 0)).astype(share.dtype)
    total = jax.ops.segment_sum(jnp.where(event, share, 0), tie, len(time))[tie]
    count = jnp.maximum(count, 1)
    early = rank / count if efron else jnp.zeros_like(rank)
    return _Order(by, last, tie, early, jnp.where(event, total / count, 0), event)


def _at_risk(score: Array, share: Array, order: _Order) -> tuple[Array, Array]:
    """The hazard of those at risk at each death, over that of the row of largest score, and that score."""
    peak = lax.stop_gradient(jnp.where(share > 0, score, -jnp.inf).max())
    peak = jnp.where(jnp.isfinite(peak), peak, 0)
    risk = share * jnp.exp(jnp.where(share > 0, score - peak, 0))
    dying = jax.ops.segment_sum(jnp.where(order.event, risk, 0), order.tie, len(risk))[order.tie]
    return jnp.cumsum(risk)[order.last] - order.early * dying, peak


def _loss(score: Array, share: Array, order: _Order) -> Array:
    """-(log partial likelihood), weights summing to one."""
    at_risk, peak = _at_risk(score, share, order)
    log = jnp.log(jnp.where(order.share > 0, at_risk, 1)) + peak
    return (order.share * log).sum() - jnp.where(order.event, share * score, 0).sum()
