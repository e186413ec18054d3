"""Which subjects are nearer to each other than different people come: copies that were changed a little.

How near two different people may come is read off the cohort itself. Where neighbours lie by chance, the gaps between
the logarithms of a subject's distances to its nearest, second and third neighbour, times 1, 2 and 3, are exponential
with one rate (Hill 1975; Levina & Bickel 2004, who read the dimension of a cloud of points off it). A copy leaves a gap
that is far too wide; many copies leave too many wide ones, though none may be beyond chance by itself (Berk & Jones
1979).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

CHANCE = 1e-3  # of calling anybody of an honest cohort a copy
LENIENT = 10.0  # how many times more often than by that law gaps may be so wide
GROUP = 4  # copies of one subject that are looked for at most; more would make a small site a group of copies
FEWEST = 12  # subjects below which a cohort says too little of how near people come
LEAST = 3.0  # evidence below which no pair is named


@dataclass(frozen=True)
class Copied:
    """A subject and those who are its copies, or it theirs, by their places; by how much beyond chance (nats)."""

    subject: int
    others: tuple[int, ...]
    evidence: float


def copied(nearness: Float[np.ndarray, "n n"]) -> list[Copied]:
    """Subjects too near each other; `nearness` are logarithms of distances, or of what grows like a power of them.

    A pair that must not be compared is infinitely far. Empty where there are too few subjects to tell.
    """
    count = len(nearness)
    group = min(GROUP, (count - 2) // 2)
    if count < FEWEST:
        return []
    near = nearness.copy()
    np.fill_diagonal(near, np.inf)
    order = np.argsort(near, axis=1)[:, : 2 * group + 1]
    place, steps = np.arange(1, 2 * group + 1), np.take_along_axis(near, order, 1)
    with np.errstate(invalid="ignore"):  # beyond the last who may be compared no gap is defined
        wide = (place * np.diff(steps, axis=1))[:, group:].mean(1, keepdims=True)
        wide = np.nan_to_num(wide, nan=np.inf, posinf=np.inf)
        usual = np.maximum(wide, np.median(wide))  # where somebody's neighbours thin out sooner, theirs count
        if not np.median(usual) > 0:
            return []
        # the two of a small site are far from all others, but no nearer to each other than others to theirs
        after = np.minimum(steps[:, 1 : group + 1], np.median(steps[:, 1 : group + 1], axis=0))
        beyond = np.nan_to_num(place[:group] * (after - steps[:, :group]) / usual, posinf=0.0)
    beyond -= np.log(2) * place[:group]
    size, evidence = beyond.argmax(1), beyond.max(1)
    return _beyond_chance(_apart(order, size, evidence), count)


def _apart(
    order: Int[np.ndarray, "n m"], size: Int[np.ndarray, " n"], evidence: Float[np.ndarray, " n"]
) -> list[Copied]:
    """Groups, the clearest first, each counted once: a copy's nearest is the original, and the original's the copy."""
    found, met = [], set()
    for row in np.argsort(-evidence, kind="stable").tolist():
        others = order[row, : size[row] + 1].tolist()
        if not met & {row, *others}:
            found.append(Copied(row, tuple(others), float(evidence[row])))
            met |= {row, *others}
    return found


def _beyond_chance(groups: list[Copied], count: int) -> list[Copied]:
    """Groups with more evidence than chance gives any, then those too many to have theirs by chance."""
    from scipy.stats import binom  # loaded after training: it takes long to import

    chance = np.minimum(LENIENT * np.exp([-one.evidence for one in groups]), 1)
    alone = int((binom.sf(0, count, chance) < CHANCE).sum())
    together = binom.sf(np.arange(len(groups)) - alone, count, chance) < CHANCE
    named = np.flatnonzero(together & (chance < LENIENT * np.exp(-LEAST)))
    return groups[: max(alone, *(named + 1))] if len(named) else groups[:alone]
