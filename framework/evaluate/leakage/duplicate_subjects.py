"""The same person under two ids, and the same voxels in two people: what no split by subject can keep apart."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np

from framework.data.cohort.store import Cohort

CHANCE = 1e-3  # how many pairs may be expected to agree so far by chance, before two subjects are called one
MANY = 50  # of those who share one scan or visit so many are named

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
    """Subjects with visits that agree in every observed number and level, as chance would not have it.

    How likely chance is to make two visits agree is reckoned from how common each value is, as if variables were
    independent. A subject's further visits count by the values that no other subject has: two healthy people keep their
    levels, and their ages advance alike.
    """
    owners: dict[bytes, list[tuple[int, float, float]]] = defaultdict(list)
    for row, key, whole, rare in _visit_rarity(cohort):
        owners[key].append((row, whole, rare))
    found: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for alike in owners.values():
        for (one, whole, rare), (other, *_) in combinations(alike[:MANY], 2):
            if one != other:
                found[one, other].append((whole, rare))
    visits = int(cohort.valid.sum())
    expected = np.log(max(visits * (visits - 1) / 2, 1))

    def surprise(shared: list[tuple[float, float]]) -> float:
        return expected + sum(rare for _, rare in shared) + min(whole - rare for whole, rare in shared)

    return {pair: len(shared) for pair, shared in found.items() if surprise(shared) < np.log(CHANCE)}


def across(pairs: Pairs, roles: Sequence[Sequence[str]]) -> dict[tuple[int, int], int]:
    """Pairs of which in some fold one is tested by a model trained on the other."""
    learns = ("train", "validation")

    def apart(one: int, other: int) -> bool:
        return any(
            (of[one] == "test" and of[other] in learns) or (of[other] == "test" and of[one] in learns) for of in roles
        )

    return {pair: count for pair, count in pairs.items() if apart(*pair)}


def _pairs(groups: Iterable[set[int]]) -> dict[tuple[int, int], int]:
    found: dict[tuple[int, int], int] = defaultdict(int)
    for rows in groups:
        for pair in combinations(sorted(rows)[:MANY], 2):
            found[pair] += 1
    return dict(found)


def _visit_rarity(cohort: Cohort) -> Iterable[tuple[int, bytes, float, float]]:
    """The subject of each visit, its values, and the logarithm of the chance that another visit has the same.

    The last number counts values that only one other visit has, of variables that do not advance by themselves.
    """
    row, visit = np.nonzero(cohort.valid)
    own = [place for place, v in enumerate(cohort.schema.variables) if "hindsight" not in v.roles]
    moves = [cohort.schema.variables[place].per_year is None for place in own] + [False] * cohort.static.shape[1]
    values = np.concatenate([cohort.values[row, visit][:, own], cohort.static[row]], axis=1)
    seen = np.concatenate([cohort.observed[row, visit][:, own], cohort.static_observed[row]], axis=1)
    values = np.where(seen, np.round(values, 9), np.nan)
    whole, rare = np.zeros(len(row)), np.zeros(len(row))
    for column, there, free in zip(values.T, seen.T, moves, strict=True):
        _, which, count = np.unique(column, return_inverse=True, return_counts=True, equal_nan=True)
        others = np.maximum(count[which] - 1, 1)
        chance = np.where(there, np.log(others / max(len(column) - 1, 1)), 0)
        whole += chance
        rare += np.where((others == 1) & free, chance, 0)
    for i, (subject, values_of_visit) in enumerate(zip(row, values, strict=True)):
        yield int(subject), values_of_visit.tobytes(), float(whole[i]), float(rare[i])
