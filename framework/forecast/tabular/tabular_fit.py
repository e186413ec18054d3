"""An estimator fitted to one target, and the losses that selected it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from framework.errors import UserError
from framework.forecast.tabular.selection import Program
from framework.scores import log_loss, pinball
from framework.types import LEVELS, Arr


@dataclass(frozen=True)
class Learnt:
    """An estimator fitted to one target.

    A number is predicted in units of `spread`, as a distance from `middle`, or, where it `differs`, as the change from
    its last observation. `around` are the quantiles of its error, empty where the estimator predicts quantiles itself.
    `learnt_from` of `table_rows` rows weighed something. `scores` are all candidates' settings and losses on subjects
    left out: log loss, or pinball loss in units of the spread.
    """

    program: Program
    candidate: int
    params: PyTree
    differs: bool
    middle: float
    around: Sequence[float]
    learnt_from: int
    table_rows: int
    scores: Sequence[tuple[Mapping[str, Any], float]]
    spread: float

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings of the chosen candidate."""
        return self.program.settings[self.candidate]

    @property
    def score(self) -> float:
        return min(score for _, score in self.scores)

    def facts(self) -> dict[str, Any]:
        """All but the parameters, as JSON has it; of these the shapes."""
        kept = ("differs", "middle", "around", "learnt_from", "table_rows", "scores", "spread")
        shapes = [list(leaf.shape) for leaf in jax.tree.leaves(self.params)]
        return {"settings": self.settings, "shapes": shapes, **{name: getattr(self, name) for name in kept}}

    def predict(self, x: Float[Arr, "n f"], observed: Bool[Arr, "n f"], start: Float[Arr, " n"]) -> Arr:
        """Probabilities, or quantiles from `start` on."""
        predicted = self.program.predict(self.candidate, self.params, x, observed)
        if self.program.estimator.classes:
            return _smooth(predicted, self.learnt_from)
        return self.quantiles(predicted, start)

    def quantiles(self, predicted: Float[Arr, "n p"], start: Float[Arr, " n"]) -> Float[Array, "n l"]:
        """From what an estimator predicts of a number, in units of the spread from `start` on."""
        found = jnp.asarray(predicted)
        found = found + jnp.asarray(self.around, found.dtype) if len(self.around) else jnp.sort(found, axis=-1)
        return found * self.spread + jnp.asarray(start)[:, None]


@dataclass(frozen=True)
class ClassLoss:
    """Log loss of probabilities."""

    usable: Bool[np.ndarray, " n"]
    truth: Float[np.ndarray, " n"]
    weight: Float[np.ndarray, " n"]

    def loss(self, predicted: Float[np.ndarray, "n p"]) -> float:
        probs = np.asarray(_smooth(predicted, int(self.usable.sum())))[self.usable]
        return float(np.average(log_loss(probs, self.truth[self.usable], 0.0), weights=self.weight[self.usable]))

    def around(self, predicted: Float[np.ndarray, "n p"]) -> list[float]:
        return []


@dataclass(frozen=True)
class NumberLoss:
    """Pinball loss of quantiles, or of a number with the quantiles of its errors around it."""

    usable: Bool[np.ndarray, " n"]
    truth: Float[np.ndarray, " n"]
    weight: Float[np.ndarray, " n"]

    def loss(self, predicted: Float[np.ndarray, "n p"]) -> float:
        predicted, truth = predicted[self.usable], self.truth[self.usable]
        around = self.around_of(predicted, truth[:, None])
        quantiles = predicted + np.array(around) if around else np.sort(predicted, axis=1)
        return float(np.average(pinball(quantiles, truth).mean(1), weights=self.weight[self.usable]))

    def around(self, predicted: Float[np.ndarray, "n p"]) -> list[float]:
        return self.around_of(predicted[self.usable], self.truth[self.usable, None])

    def around_of(self, predicted: np.ndarray, truth: np.ndarray) -> list[float]:
        if predicted.shape[1] == len(LEVELS):
            return []
        if predicted.shape[1] > 1:
            count = predicted.shape[1]
            raise UserError(f"the regressor predicts {count} quantiles; expected one number, or {list(LEVELS)}")
        return np.quantile(truth - predicted, LEVELS).tolist()


def _smooth(predicted: Float[Arr, "n p"], rows: int) -> Float[Arr, "n p"]:
    """Probabilities as if one more row had been shared by all levels: none is said to be impossible."""
    return (predicted * rows + 1 / predicted.shape[-1]) / (rows + 1)
