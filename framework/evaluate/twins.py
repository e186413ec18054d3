"""The same person under two ids, and the same voxels in two people: what no split by subject can keep apart."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np

from framework.data.store import Cohort

CHANCE = 1e-3  # how many pairs may be expected to agree so far by chance, before two subjects are called one

Pairs = Mapping[tuple[int, int], int]  # places of two subjects, and how many scans or visits they share


def shared_scans(cohort: Cohort) -> Pairs:
    """Subjects with identical voxels, by the digests that the store keeps: no scan is read."""
    owners: dict[str, set[int]] = defaultdict(set)
    for row, entry in enumerate(cohort.manifest["subjects"]):
        for visit in entry["visits"]:
            for scan in visit["scans"].values():
                owners[scan["voxels"]].add(row)
    return _pairs(owners.values())


def shared_visits(cohort: Cohort) -> Pairs:
    """Subjects whose visits agree in every observed number and level, which chance would not bring about.

    A visit is told by its values and the subject's own. How often chance makes two visits agree is reckoned from how
    common each value is, as if variables were independent; visits that share little or common values are let be.
    """
    owners: dict[bytes, dict[int, float]] = defaultdict(dict)
    for row, key, chance in _told(cohort):
        owners[key][row] = chance
    visits = int(cohort.valid.sum())
    expected = visits * (visits - 1) / 2
    return _pairs(set(rows) for rows in owners.values() if expected * min(rows.values()) < CHANCE)


def across(pairs: Pairs, roles: Sequence[Sequence[str]]) -> dict[tuple[int, int], int]:
    """Those of the pairs of whom in some fold one is tested by what was learnt from the other."""
    learns = ("train", "validation")

    def apart(one: int, other: int) -> bool:
        return any(
            (of[one] == "test" and of[other] in learns) or (of[other] == "test" and of[one] in learns) for of in roles
        )

    return {pair: count for pair, count in pairs.items() if apart(*pair)}


def _pairs(groups: Iterable[set[int]]) -> dict[tuple[int, int], int]:
    found: dict[tuple[int, int], int] = defaultdict(int)
    for rows in groups:
        for pair in combinations(sorted(rows)[:50], 2):  # of a scan that hundreds share, the first fifty will do
            found[pair] += 1
    return dict(found)


def _told(cohort: Cohort) -> Iterable[tuple[int, bytes, float]]:
    """Of each visit the subject, what it says, and the chance that another one says the same."""
    row, visit = np.nonzero(cohort.valid)
    own = [place for place, v in enumerate(cohort.schema.variables) if "hindsight" not in v.roles]
    values = np.concatenate([cohort.values[row, visit][:, own], cohort.static[row]], axis=1)
    seen = np.concatenate([cohort.observed[row, visit][:, own], cohort.static_observed[row]], axis=1)
    values = np.where(seen, np.round(values, 9), np.nan)
    chance = np.zeros(len(row))
    for column, there in zip(values.T, seen.T, strict=True):
        _, which, count = np.unique(column, return_inverse=True, return_counts=True, equal_nan=True)
        chance += np.where(there, np.log(count[which] / len(column)), 0)
    for i, (subject, told) in enumerate(zip(row, values, strict=True)):
        yield int(subject), told.tobytes(), float(np.exp(chance[i]))
