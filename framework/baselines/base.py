"""Interface of estimators: pure functions from a weighted table to parameters, and from parameters to predictions."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import Field, replace
from typing import Any, ClassVar, TypeVar

import jax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from framework.configurable import configurable
from framework.types import Arr

E = TypeVar("E", bound="Estimator")


@configurable("estimator")
class Estimator(ABC):
    """A frozen dataclass whose fields named in DYNAMIC may be traced, so that a whole grid is one program.

    `classes` is the number of the target's levels, 0 for a number. A row of weight zero changes nothing: folds are
    weights. Values where `observed` is False are never read. All methods can be traced: jit, and vmap over weights,
    keys and DYNAMIC.
    """

    classes: int
    DYNAMIC: ClassVar[tuple[str, ...]] = ()
    FINITE: ClassVar[bool] = True  # whether all numbers of its parameters are (thresholds of trees are not)
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @abstractmethod
    def fit(
        self,
        x: Float[Arr, "n f"],
        observed: Bool[Arr, "n f"],
        y: Float[Arr, " n"] | Int[Arr, " n"],
        weight: Float[Arr, " n"],
        *,
        key: Key[Array, ""],
    ) -> PyTree:
        """Parameters (a pytree of arrays) learnt from the rows; y is a level's index (int) or a number (float)."""

    @abstractmethod
    def predict(self, params: PyTree, x: Float[Arr, "n f"], observed: Bool[Arr, "n f"]) -> Float[Array, "n p"]:
        """A probability for each of p = `classes` levels; for a number p = 1, or one for each quantile asked of it."""

    def shortfall(self, params: PyTree) -> str:
        """Return a message where these parameters (of one fit, or of several) do not solve the problem, else "".

        A fit is pure: its caller reports the message.
        """
        return ""

    def fit_many(
        self,
        x: Float[Arr, "n f"],
        observed: Bool[Arr, "n f"],
        y: Float[Arr, " n"] | Int[Arr, " n"],
        weights: Float[Arr, "m n"],
        *,
        keys: Key[Array, " m"],
        settings: Mapping[str, Float[Arr, " m"]] | None = None,
    ) -> PyTree:
        """Parameters of m fits to the same rows on a leading axis, each with its weights, key and settings of DYNAMIC.

        Lane by lane what `fit` gives. Override it where the fits can share work (kernel matrices, decompositions).
        """

        def one(weight: Arr, key: Array, own: Mapping[str, Arr]) -> PyTree:
            return self.given(own).fit(x, observed, y, weight, key=key)

        return jax.vmap(one)(weights, keys, dict(settings or {}))

    def fit_grid(
        self,
        x: Float[Arr, "n f"],
        observed: Bool[Arr, "n f"],
        y: Float[Arr, " n"] | Int[Arr, " n"],
        weight: Float[Arr, " n"],
        *,
        key: Key[Array, ""],
        settings: Mapping[str, Float[Arr, " m"]],
    ) -> PyTree:
        """Parameters of a fit for each of m settings of DYNAMIC, on a leading axis (of 1 without any).

        All have the same rows, weights and key, so that what depends on these alone is in memory once.
        """

        def one(own: Mapping[str, Arr]) -> PyTree:
            return self.given(own).fit(x, observed, y, weight, key=key)

        return jax.vmap(one)(dict(settings)) if settings else jax.tree.map(lambda leaf: leaf[None], one({}))

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
        """The predictions of `fit_grid`'s fits for all rows. Override it where they need not all be kept for that."""
        params = self.fit_grid(x, observed, y, weight, key=key, settings=settings)
        return lax.map(lambda lane: self.given(lane[1]).predict(lane[0], x, observed), (params, dict(settings)))

    def compacted(self, params: PyTree) -> PyTree:
        """The same parameters in fewer bytes, outside of a trace: shapes may depend on what was learnt."""
        return params

    def given(self: E, settings: Mapping[str, int | float | Arr]) -> E:
        """The same recipe with these settings."""
        return replace(self, **settings)
