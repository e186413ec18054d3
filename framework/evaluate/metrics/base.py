"""The interface of metrics: a value with its name, the direction that is better, and how it averages."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, Shaped

from framework.types import Arr


@dataclass(frozen=True)
class Metric(ABC):
    """Scores the forecasts of q queries; a query of weight zero changes nothing, what is undefined is NaN.

    The work that needs no weights is `prepare`, so that thousands of bootstrap weightings share it. Averaging over
    pairs (query, truth) counts every query alike; averaging over subjects counts every subject alike, however many
    queries it has.
    """

    title: ClassVar[str]
    better: ClassVar[str | float]  # "lower", "higher", or the number that is best to be near to (a nominal coverage)
    smooth: ClassVar[bool] = True  # False where it is folded at a bound (a distance from the ideal), so biased upwards
    bounds: ClassVar[tuple[float, float]] = (0.0, math.inf)  # of its values
    undefined: ClassVar[str] = "these outcomes and forecasts leave it undefined"  # why it may be NaN

    unit: str | None = None
    averaging: Literal["pair", "subject"] = "pair"

    @abstractmethod
    def prepare(self, prediction: Float[Arr, "q p"], truth: Float[Arr, "q ..."]) -> PyTree: ...

    def prepare_within(self, prediction: Float[Arr, "q p"], truth: Float[Arr, "q ..."], fold: Int[Arr, " q"]) -> PyTree:
        """`prepare` where each fold was answered by a model of its own; the same, but for rankings."""
        return self.prepare(prediction, truth)

    def comparable(self, truth: Shaped[np.ndarray, "q ..."], fold: Int[np.ndarray, " q"]) -> int | None:
        """How many pairs of queries a ranking compares, each of one fold; None for a score that compares no queries."""
        return None

    def unestimable(
        self, truth: Shaped[np.ndarray, "q ..."], fold: Int[np.ndarray, " q"], levels: Sequence[str]
    ) -> str | None:
        """Why a ranking cannot be taken of these outcomes, whatever was forecast; None where it can."""
        return None

    def why(
        self, truth: Shaped[np.ndarray, "q ..."], folds: Int[np.ndarray, "r q"], levels: Sequence[str]
    ) -> tuple[int | None, str]:
        """The number of pairs compared, of the repeat with fewest; and why a score that is NaN is so."""
        counts = [self.comparable(truth, fold) for fold in folds]
        reasons = [self.unestimable(truth, fold, levels) for fold in folds]
        fewest = min((count for count in counts if count is not None), default=None)
        return fewest, next((reason for reason in reasons if reason), self.undefined)

    @abstractmethod
    def score(self, prepared: PyTree, weight: Float[Arr, " q"]) -> Float[Array, ""]: ...

    def score_resample(self, prepared: PyTree, weight: Float[Arr, " q"]) -> Float[Array, ""]:
        """`score` where weights count how often a query was drawn; the same, unless copies would rank each other."""
        return self.score(prepared, weight)

    @property
    def name(self) -> str:
        return self.title if self.averaging == "pair" else f"{self.title} by subject"

    def weigh(self, weight: Float[Arr, " q"], subject: Int[Arr, " q"]) -> Float[Array, " q"]:
        """The weights to score with: under subject averaging a subject's queries share the weight of one."""
        weight = jnp.asarray(weight)
        if self.averaging == "pair":
            return weight
        queries = jax.ops.segment_sum((weight > 0).astype(weight.dtype), jnp.asarray(subject), weight.size)
        return weight / jnp.maximum(queries[subject], 1)

    def __call__(
        self,
        prediction: Float[Arr, "q p"],
        truth: Float[Arr, "q ..."],
        weight: Float[Arr, " q"],
        subject: Int[Arr, " q"],
    ) -> Float[Array, ""]:
        return self.score(self.prepare(prediction, truth), self.weigh(weight, subject))


@dataclass(frozen=True)
class Mean(Metric):
    """A metric that is a function of weighted means, so that a bootstrap of it is one matrix product."""

    @abstractmethod
    def terms(self, prediction: Float[Array, "q p"], truth: Float[Array, " q"]) -> Float[Array, "q k"]:
        """The k numbers of each query whose means are wanted."""

    def finish(self, means: Float[Array, " k"]) -> Float[Array, ""]:
        return means[0]

    def prepare(self, prediction: Float[Arr, "q p"], truth: Float[Arr, " q"]) -> PyTree:
        return self.terms(jnp.asarray(prediction), jnp.asarray(truth))

    def score(self, prepared: PyTree, weight: Float[Arr, " q"]) -> Float[Array, ""]:
        counted = jnp.where(weight[:, None] > 0, prepared, 0)
        return self.finish(jnp.dot(weight, counted, precision="highest") / jnp.sum(weight))
