"""Batches: nothing lost, nothing twice, nothing where it does not belong."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.data.batches.batch import Loader, Order, Size
from framework.data.batches.query_packing import width
from framework.data.cohort.store import Cohort
from framework.errors import UserError
from framework.image.normalise import normalise
from tests.cohorts import examples

ROWS = list(range(12))
orders = st.lists(st.sampled_from(ROWS), unique=True, min_size=1)


class Counted(Cohort):
    """A cohort that remembers which scans were read from disk."""

    def voxels(self, modality, subject, visit):
        self.__dict__.setdefault("reads", []).append((modality, subject, visit))
        return super().voxels(modality, subject, visit)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return examples(tmp_path_factory.mktemp("cohort") / "c")


@pytest.fixture(scope="module")
def loader(made):
    return Loader(made)


def scans_of(made, row: int) -> dict[str, int]:
    return {name: int(present[row].sum()) for name, present in made.cohort.present.items()}


def questions_of(made, row: int) -> int:
    """Rows of questions, each of which holds `width`."""
    return int(np.ceil(made.train_queries.query.valid[row].sum() / width(made.train_queries)))


def fits(size: Size, made, rows) -> bool:
    scans = [sum(scans_of(made, row)[name] for row in rows) for name in size.scans]
    asked = 0 if size.rows is None else sum(questions_of(made, row) for row in rows)
    return len(rows) <= size.subjects and all(
        used <= room for used, room in zip([asked, *scans], [size.rows or 0, *size.scans.values()], strict=True)
    )


@given(orders, st.integers(1, 12), st.none() | st.integers(10, 30), st.integers(5, 12), st.integers(5, 12))
def test_packing_keeps_every_row_in_order_within_its_room(made, loader, rows, subjects, asked, t1, flair):
    size = Size(subjects, {"t1": t1, "flair": flair}, asked)
    batches = list(loader.pack(rows, size))
    assert [row for batch in batches for row in batch] == rows
    assert all(fits(size, made, batch) for batch in batches)
    for batch, after in pairwise(batches):  # a batch ends because the next row had no room
        assert not fits(size, made, [*batch, after[0]])


@given(orders, st.integers(1, 12), st.booleans())
def test_a_size_has_room_for_each_row_and_for_most_batches(made, loader, rows, subjects, packed):
    size = loader.size(subjects, rows, packed)
    assert (size.rows is not None) == packed
    assert all(fits(size, made, [row]) for row in rows)
    assert all(room % 8 == 0 for room in size.room.values())
    mean = {name: np.mean([scans_of(made, row)[name] for row in rows]) for name in size.scans}
    assert all(size.scans[name] >= min(subjects, len(rows)) * mean[name] for name in mean)


def test_every_row_exactly_once_an_epoch(loader):
    order, number, seen = Order(loader, ROWS, loader.size(5, ROWS), [1, 2]), 0, []
    for _ in range(3):
        epoch: list[int] = []
        while len(epoch) < len(ROWS):
            epoch += order[number]
            number += 1
        assert sorted(epoch) == ROWS
        seen.append(epoch)
    assert seen[0] != seen[1] != seen[2]


def test_the_order_is_a_function_of_seed_and_epoch(loader):
    """Whichever batch is asked for first, and whatever was asked before."""

    def some(seed, numbers, rows=ROWS):
        order = Order(loader, rows, loader.size(5, rows), seed)
        return {number: order[number] for number in numbers}

    forwards = some([1, 2], range(40))
    assert forwards == some([1, 2], reversed(range(40)))
    assert forwards == some([1, 2], range(40), rows=np.array(ROWS))
    assert forwards != some([1, 3], range(40))


def test_padding_weighs_nothing_and_holds_nothing(loader, made):
    size = loader.size(6, ROWS)
    batch = loader.batch([7, 2], size, made.eval_queries)
    np.testing.assert_array_equal(batch.weight, [1, 1, 0, 0, 0, 0])
    for part in (batch.visits.times, batch.visits.values, batch.visits.static, batch.query.time, batch.query.known):
        assert part.dtype == np.float32
    masks = [batch.visits.valid, batch.visits.observed, batch.visits.static_observed, batch.query.valid]
    for mask in [*masks, *(truth.observed for truth in batch.truth.values())]:
        assert not mask[2:].any()
        assert mask[:2].any()


def test_rows_are_the_subjects_that_were_asked_for(loader, made):
    batch, cohort = loader.batch([7, 2], loader.size(6, ROWS), made.eval_queries), made.cohort
    for place, row in enumerate([7, 2]):
        np.testing.assert_array_equal(batch.visits.values[place], cohort.values[row].astype(np.float32))
        np.testing.assert_array_equal(batch.visits.valid[place], cohort.valid[row])
        np.testing.assert_array_equal(batch.query.origin[place], made.eval_queries.query.origin[row])
        for name, truth in batch.truth.items():
            np.testing.assert_array_equal(
                truth.value[place], made.eval_queries.truth[name].value[row].astype(np.float32)
            )


@given(orders)
def test_scans_lie_at_their_row_and_visit(made, loader, rows):
    batch = loader.batch(rows, loader.size(len(rows), rows), made.eval_queries)
    for name, scans in batch.visits.scans.items():
        places = list(zip(scans.row[scans.valid].tolist(), scans.visit[scans.valid].tolist(), strict=True))
        listed = [(i, int(j)) for i, row in enumerate(rows) for j in np.flatnonzero(made.cohort.present[name][row])]
        assert sorted(places) == listed
        assert not scans.voxels[~scans.valid].any()
        for (place, visit), voxels in zip(places, scans.voxels[scans.valid], strict=True):
            np.testing.assert_array_equal(voxels, normalise(made.cohort.voxels(name, rows[place], visit)))


def test_more_scans_than_room_is_refused(loader, made):
    with pytest.raises(UserError, match="do not fit"):
        loader.batch(ROWS, Size(12, {"t1": 1, "flair": 1}), made.eval_queries)


def counted(made) -> tuple[Counted, list[tuple[str, int, int]], int]:
    """A counting cohort, its t1 scans, and the bytes of one."""
    old = made.cohort
    cohort = Counted(**{name: getattr(old, name) for name in Counted.__dataclass_fields__})
    scans = [("t1", int(i), int(j)) for i, j in np.argwhere(old.present["t1"])]
    return cohort, scans, normalise(old.voxels(*scans[0])).nbytes


@pytest.mark.parametrize("kept", [0, 3, 10**6])
def test_the_cache_keeps_what_was_used_last_within_its_budget(made, kept):
    cohort, scans, each = counted(made)
    loader = Loader(type(made)(cohort, made.layout), cache_bytes=kept * each + each // 2)

    def reads(wanted):
        cohort.__dict__["reads"] = []
        for scan in wanted:
            loader._prepared(*scan)
        return cohort.__dict__["reads"]

    assert reads(scans) == scans
    newest = scans[-kept:] if kept else []
    assert reads(newest) == []
    assert reads(scans) == (scans if kept < len(scans) else [])


def test_a_budget_smaller_than_a_scan_keeps_nothing_and_still_answers(made):
    cohort, scans, each = counted(made)
    loader = Loader(type(made)(cohort, made.layout), cache_bytes=each - 1)
    for _ in range(2):
        np.testing.assert_array_equal(loader._prepared(*scans[0]), normalise(made.cohort.voxels(*scans[0])))
    assert len(cohort.__dict__["reads"]) == 2
