"""Numbers of figures and tables with the interval that the leaderboard gives a score: one method for all of a page."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from framework.evaluate.inference.bca_interval import Spread
from framework.evaluate.inference.bootstrap import resampled
from framework.evaluate.inference.corrected_ttest import widening
from framework.types import Arr

Found = tuple[Float[Array, "..."], Float[Array, "b ..."], Float[Array, "n ..."]]  # as observed, resampled, without one


@dataclass(frozen=True)
class Resampling:
    """The draws of subjects that a run's leaderboard was made with."""

    resamples: int
    seed: int = 0

    @property
    def key(self) -> Key[Array, ""]:
        return jax.random.key(self.seed)

    def means(
        self,
        values: Float[np.ndarray, "q k"],
        weights: Float[np.ndarray, "q k"],
        subject: Int[np.ndarray, " q"],
        subjects: int,
        fold: Int[np.ndarray, "r q"],
        bounds: tuple[float, float] = (-np.inf, np.inf),
    ) -> Float[np.ndarray, "3 k"]:
        """k weighted means, the lower and the upper ends of their 95% intervals; NaN where there is no weight."""
        sums = np.zeros((subjects, 2, values.shape[1]))
        np.add.at(sums, subject, np.stack([np.where(weights > 0, values, 0) * weights, weights], axis=1))
        return intervals(_means(sums, self.key, resamples=self.resamples), fold, bounds)


def intervals(
    found: Found, fold: Int[np.ndarray, "r q"], bounds: tuple[float, float] = (-np.inf, np.inf)
) -> Float[np.ndarray, "3 ..."]:
    """Values and the ends of their 95% intervals, as a leaderboard's over these folds."""
    value, draws, without = (np.asarray(x, np.float64) for x in found)
    ends, widened = np.full((2, *value.shape), np.nan), widening(fold)
    for k in np.ndindex(value.shape):
        drawn, left_out = (some[(slice(None), *k)] for some in (draws, without))
        spread = Spread.of(float(value[k]), drawn, left_out, widened=widened, bounds=bounds)
        ends[(slice(None), *k)] = spread.interval()
    return np.stack([value, *ends])


@partial(jax.jit, static_argnames="resamples")
def _means(sums: Float[Arr, "n 2 k"], key: Key[Array, ""], resamples: int) -> Found:
    def score(counts: Float[Array, "c n"]) -> Float[Array, "c k"]:
        total, weight = jnp.einsum("cn,njk->jck", counts, jnp.asarray(sums), precision="highest")
        return jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1), jnp.nan)

    return resampled(score, len(sums), resamples, key, 2 * len(sums))
