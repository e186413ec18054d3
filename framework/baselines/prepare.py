"""Standardisation of features, for models that measure distances: imputed, centred, of unit variance."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from framework.baselines.base import Estimator
from framework.baselines.shared_fits import by_group, groups
from framework.types import Arr, pytree


@pytree
class Moments:
    """Mean and scale of each feature over its observed rows of positive weight; `gaps`: some of these rows lack it."""

    mean: Float[Array, "*m f"]
    scale: Float[Array, "*m f"]
    gaps: Bool[Array, "*m f"]


@pytree
class PreparedParams:
    """Moments of the features, and the wrapped estimator's parameters."""

    moments: Moments
    inner: PyTree


@jax.jit
def moments(x: Float[Arr, "n f"], observed: Bool[Arr, "n f"], weight: Float[Arr, " n"]) -> Moments:
    """Weighted mean and standard deviation; a constant feature has scale 1, one never observed mean 0 as well.

    They are taken of (x - least) / range, so that neither far-off nor minute numbers cost digits in float32.
    """
    counts = observed & (weight > 0)[:, None]
    any_ = counts.any(0)
    low = jnp.where(any_, jnp.where(counts, x, jnp.inf).min(0), 0)
    span = jnp.where(any_, jnp.where(counts, x, -jnp.inf).max(0), 0) - low
    varies = span > 0
    span = jnp.where(varies, span, 1)
    unit = (jnp.where(counts, x, low) - low) / span
    share = jnp.where(counts, weight[:, None], 0)
    share = share / jnp.where(any_, share.sum(0), 1)
    mean = (share * unit).sum(0)
    spread = jnp.sqrt((share * (unit - mean) ** 2).sum(0))
    gaps = jnp.any((weight > 0)[:, None] & ~observed, axis=0)
    return Moments(low + span * mean, jnp.where(varies & (spread > 0), span * spread, 1), gaps)


@dataclass(frozen=True)
class Prepared(Estimator):
    """An estimator on standardised features, missing values imputed by the training mean, which is 0.

    `missing_indicators` appends for each feature whether it is missing (1 or 0; always 0 where no training row lacked
    it). Every fit has the moments of its own rows. In `fit_many` fits of equal weights (a fold's candidates) are
    standardised once and handed to the wrapped estimator's `fit_many` together, which may share more (kernel
    matrices, decompositions). Folds are recognised by their weights: inside a trace, or where no two fits have
    the same, the fits are mapped one by one.
    """

    inner: Estimator
    missing_indicators: bool = False

    @property
    def classes(self) -> int:  # the wrapped estimator's
        return self.inner.classes

    @property
    def DYNAMIC(self) -> tuple[str, ...]:  # noqa: N802
        return self.inner.DYNAMIC

    def fit(
        self,
        x: Float[Arr, "n f"],
        observed: Bool[Arr, "n f"],
        y: Float[Arr, " n"] | Int[Arr, " n"],
        weight: Float[Arr, " n"],
        *,
        key: Key[Array, ""],
    ) -> PreparedParams:
        of, z = self._prepared(x, observed, weight)
        return PreparedParams(of, self.inner.fit(z, _all(z), y, weight, key=key))

    def predict(self, params: PreparedParams, x: Float[Arr, "n f"], observed: Bool[Arr, "n f"]) -> Float[Array, "n p"]:
        z = self.features(params.moments, x, observed)
        return self.inner.predict(params.inner, z, _all(z))

    def fit_many(
        self,
        x: Float[Arr, "n f"],
        observed: Bool[Arr, "n f"],
        y: Float[Arr, " n"] | Int[Arr, " n"],
        weights: Float[Arr, "m n"],
        *,
        keys: Key[Array, " m"],
        settings: Mapping[str, Float[Arr, " m"]] | None = None,
    ) -> PreparedParams:
        some = groups(weights)
        if some is None or len(some) == len(weights):
            return super().fit_many(x, observed, y, weights, keys=keys, settings=settings)

        def fold(weight: Arr, keys: Array, settings: Mapping[str, Arr]) -> PreparedParams:
            of, z = self._prepared(x, observed, weight)
            lanes = jnp.broadcast_to(weight, (len(keys), len(weight)))
            inner = self.inner.fit_many(z, _all(z), y, lanes, keys=keys, settings=settings)
            return PreparedParams(
                jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(keys), *leaf.shape)), of), inner
            )

        return by_group(some, fold, weights, keys, dict(settings or {}))

    def answer_grid(
        self,
        x: Float[Arr, "n f"],
        observed: Bool[Arr, "n f"],
        y: Float[Arr, " n"] | Int[Arr, " n"],
        weight: Float[Arr, " n"],
        *,
        key: Key[Array, ""],
        settings: Mapping[str, Float[Arr, " m"]],
    ) -> Float[Array, "m n p"]:
        z = self.features(moments(x, observed, weight), x, observed)
        return self.inner.answer_grid(z, _all(z), y, weight, key=key, settings=settings)

    def compacted(self, params: PreparedParams) -> PreparedParams:
        return replace(params, inner=self.inner.compacted(params.inner))

    def shortfall(self, params: PreparedParams) -> str:
        return self.inner.shortfall(params.inner)

    def given(self, settings: Mapping[str, int | float | Arr]) -> "Prepared":
        return replace(self, inner=self.inner.given(settings))

    def features(self, of: Moments, x: Float[Arr, "n f"], observed: Bool[Arr, "n f"]) -> Float[Array, "n p"]:
        """Features of the wrapped estimator."""
        z = jnp.where(observed, (jnp.where(observed, x, 0) - of.mean) / of.scale, 0)
        return jnp.concatenate([z, (~observed & of.gaps).astype(z.dtype)], 1) if self.missing_indicators else z

    def _prepared(self, x: Arr, observed: Arr, weight: Arr) -> tuple[Moments, Array]:
        """Moments and features; rows that weigh nothing are 0, whatever they held."""
        of = moments(x, observed, weight)
        return of, jnp.where((weight > 0)[:, None], self.features(of, x, observed), 0)


def _all(z: Array) -> Array:
    return jnp.ones(z.shape, bool)
