"""Differences between forecasters over repeated folds, whose training subjects overlap."""

import numpy as np
from jaxtyping import Float
from scipy.special import stdtr, stdtrit


def corrected(
    differences: Float[np.ndarray, " j"], tested: float, trained: float, coverage: float = 0.95
) -> tuple[float, float, float]:
    """The interval of the mean of j folds' differences and the p-value of its being 0.

    A fold's variance counts 1/j + tested/trained, not 1/j: folds share subjects to train on, so their differences are
    correlated (Nadeau & Bengio 2003, Eq. 9; over repeats Bouckaert & Frank 2004). NaN unless every fold has its own.
    """
    count = len(differences)
    if count < 2 or np.isnan(differences).any():
        return float("nan"), float("nan"), float("nan")
    mean = differences.mean()
    error = np.sqrt((1 / count + tested / trained) * differences.var(ddof=1))
    half = stdtrit(count - 1, (1 + coverage) / 2) * error
    t = mean / error if error > 0 else (0.0 if mean == 0 else np.inf)
    return float(mean - half), float(mean + half), float(2 * stdtr(count - 1, -abs(t)))
