"""Near-duplicates of a cohort: people whose scans or measurements are as near another's as changed copies are."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from framework.data.batches.normalise import scaled
from framework.data.cohort.store import Cohort
from framework.evaluate.leakage.duplicate_subjects import Pairs
from framework.evaluate.leakage.gap_test import FEWEST, copied
from framework.evaluate.leakage.scan_similarity import comparable, reduced, scan_similarity
from framework.evaluate.leakage.table_similarity import CELLS, Cells, cells, table_similarity

MOST = 2000  # subjects, and scans of a modality, that are compared; of more, so many are drawn


@dataclass(frozen=True)
class Near:
    """Pairs of subjects, by their places, and in how much they are near; what was compared, in words."""

    pairs: Pairs = field(default_factory=dict)
    compared: tuple[str, ...] = ()


def near(cohort: Cohort, modalities: tuple[str, ...], known: Pairs) -> Near:
    """Near duplicates that are not among the identical ones, `known`. Time grows with the square of `MOST` at most."""
    found, compared = dict[tuple[int, int], int](), []
    for what, rows, nearness in _looked_at(cohort, modalities):
        compared.append(what)
        place = {row: i for i, row in enumerate(rows.tolist())}
        for one, other in known:
            if one in place and other in place:
                nearness[place[one], place[other]] = nearness[place[other], place[one]] = np.inf
        for group in copied(nearness):
            for other in group.others:
                one, another = sorted((int(rows[group.subject]), int(rows[other])))
                found[one, another] = found.get((one, another), 0) + 1
    return Near(found, tuple(compared))


def _looked_at(
    cohort: Cohort, modalities: tuple[str, ...]
) -> Iterator[tuple[str, Int[np.ndarray, " p"], Float[np.ndarray, "p p"]]]:
    """Comparisons: what is compared, in words, the subjects' places, and how near they are."""
    for name in modalities:
        if comparable(cohort.schema.modality(name).shape):
            rows = _drawn(np.flatnonzero(cohort.present[name].any(1)))
            scans = _firsts(cohort.present[name][rows])
            if len(rows) >= FEWEST:
                small = np.stack([reduced(scaled(cohort, name, int(rows[i]), int(j))) for i, j in scans])
                compared = f"{len(small)} of {cohort.present[name].sum()} scans ({name})"
                yield compared, rows, scan_similarity(small, scans[:, 0], len(rows))
    rows = _drawn(np.arange(len(cohort.subjects)))
    table = cells(cohort, rows)
    enough = table.observed.sum(1) >= CELLS
    if enough.sum() >= FEWEST:
        of = f"the measurements of {enough.sum()} of {len(cohort.subjects)} subjects"
        yield of, rows[enough], table_similarity(Cells(table.value[enough], table.observed[enough], table.grain))


def _drawn(rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, " p"]:
    """All of them, or as many as are compared, the same ones every time."""
    return rows if len(rows) <= MOST else np.sort(np.random.default_rng(0).permutation(rows)[:MOST])


def _firsts(present: np.ndarray) -> Int[np.ndarray, "s 2"]:
    """For each subject as many of the first scans as can be compared of all."""
    number = np.where(present, np.cumsum(present, axis=1), present.size)
    each = max(k for k in range(1, present.shape[1] + 1) if k == 1 or (number <= k).sum() <= MOST)
    return np.argwhere(number <= each)
