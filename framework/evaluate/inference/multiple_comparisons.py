"""Holm's letters: comparisons of all pairs of models, held to one family-wise error rate."""

from collections.abc import Sequence
from itertools import combinations
from string import ascii_lowercase

import numpy as np
from jaxtyping import Bool, Float

ALPHA = 0.05


def holm(p: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """p-values of t tests such that any false finding among all has the chance they say (Holm 1979)."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def compact_letters(apart: Bool[np.ndarray, "m m"]) -> list[str]:
    """A letter for each largest set of models of which no two differ.

    Models that share a letter are not statistically distinguishable. Models come best first, and so do the letters. By
    insertion and absorption (Piepho 2004).
    """
    count = len(apart)
    groups = [frozenset(range(count))]
    for i, j in combinations(range(count), 2):
        if apart[i, j]:
            split = [part for g in groups for part in ((g - {i}, g - {j}) if {i, j} <= g else (g,))]
            unique = list(dict.fromkeys(split))
            groups = [g for g in unique if not any(g < other for other in unique)]
    ordered = sorted(groups, key=sorted)
    return ["".join(_letter(k) for k, group in enumerate(ordered) if i in group) for i in range(count)]


def _letter(place: int) -> str:
    """a to z, then a′ and so on."""
    return ascii_lowercase[place % 26] + "′" * (place // 26)


def letters(losses: Sequence[float], p: Float[np.ndarray, "m m"]) -> list[str]:
    """Compact letters of m models by their losses and the p-values of their differences; "" where one is undefined."""
    known = [m for m in np.argsort(losses, kind="stable") if np.isfinite(losses[m])]
    pairs = list(combinations(range(len(known)), 2))
    adjusted = holm(np.array([p[known[i], known[j]] for i, j in pairs]))
    apart = np.zeros((len(known), len(known)), bool)
    for (i, j), value in zip(pairs, adjusted, strict=True):
        apart[i, j] = apart[j, i] = value < ALPHA
    assigned = dict(zip(known, compact_letters(apart), strict=True))
    return [assigned.get(m, "") for m in range(len(losses))]


def places(
    losses: Float[np.ndarray, " m"], draws: Float[np.ndarray, "b m"], coverage: float = 0.95
) -> Float[np.ndarray, "m 3"]:
    """The place of each of m models by its loss, 1 the best, and the ends of its places in most of b resamples.

    Equals share the mean of their places; NaN where a model has no loss. The ends say how far a place moves with the
    subjects tested; they are no test of who is better, which the letters are: models nearly alike swap places at will.
    """
    from scipy.stats import rankdata  # loaded after training: it takes long to import

    own = np.full((3, len(losses)), np.nan)
    known = np.isfinite(losses)
    complete = draws[:, known][~np.isnan(draws[:, known]).any(axis=1)]
    own[0, known] = rankdata(losses[known])
    if len(complete):
        ends = (1 - coverage) / 2, (1 + coverage) / 2
        own[1:, known] = np.quantile(rankdata(complete, axis=1), ends, axis=0, method="inverted_cdf")
    return own.T
