"""Scores and differences over folds, whose training subjects overlap, so that folds are no independent samples."""

import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtr, stdtrit


def widening(fold: Int[np.ndarray, "r q"]) -> float:
    """How many times wider than the subject bootstrap's an interval over folds is: the root of 1 + K tested/trained.

    The bootstrap takes fitted models as given. But each subject is tested once and, in the other folds, trained on: two
    subjects that are alike help each other's forecasts, and count twice. No run of K folds tells how much that adds
    (Bengio & Grandvalet 2004); Nadeau & Bengio (2003, Eq. 9) have a variance over folds count 1/K + tested/trained for
    1/K, which is 1 + K/(K - 1) times as much. 1 where one fold alone was tested: no subject in it was trained on.
    """
    folds = np.mean([len(np.unique(one)) for one in fold])
    return float(np.sqrt(1 + folds / (folds - 1))) if folds > 1 else 1.0


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
