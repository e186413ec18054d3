"""Means over parts of the queries, with the subject-bootstrap interval that every number of the page has."""

import numpy as np
from jaxtyping import Float, Int

RESAMPLES = 1000


def means(
    values: Float[np.ndarray, "q k"], weights: Float[np.ndarray, "q k"], subject: Int[np.ndarray, " q"]
) -> Float[np.ndarray, "3 k"]:
    """k weighted means, the lower and the upper ends of their 95% intervals; NaN where there is no weight."""
    subjects = subject.max() + 1
    sums = np.zeros((subjects, 2, values.shape[1]))
    np.add.at(sums, subject, np.stack([values * weights, weights], axis=1))
    present = np.bincount(subject, minlength=subjects) > 0
    sums = sums[present]
    drawn = np.random.default_rng(0).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), RESAMPLES)
    with np.errstate(invalid="ignore", divide="ignore"):  # a bin that a resample leaves empty is NaN
        whole = sums.sum(0)
        value = whole[0] / whole[1]
        totals = np.tensordot(drawn, sums, axes=1)
        resampled = totals[:, 0] / totals[:, 1]
    ends = np.full((2, values.shape[1]), np.nan)
    for k in np.flatnonzero(whole[1] > 0):
        ends[:, k] = np.nanquantile(resampled[:, k], [0.025, 0.975])
    return np.vstack([value, ends])
