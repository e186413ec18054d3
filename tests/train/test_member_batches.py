"""Several members' batches side by side are each member's own, and go on where they stopped."""

from dataclasses import replace
from itertools import islice

import jax
import numpy as np
import pytest

from framework.data.batches.batch import QUERIES, Loader
from framework.data.splits.split import Split
from framework.train.member_batches import Feed
from tests.cohorts import examples

KEYS = jax.random.split(jax.random.key(0), 2)
BATCH, ROUND = 4, 3


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return examples(tmp_path_factory.mktemp("cohort") / "c")


def split(shift: int) -> Split:
    place = (np.arange(12) + shift) % 12
    return Split(place < 7, (place >= 7) & (place < 10), place >= 10)


def subjects(drawn, feed, examples) -> list[int]:
    """Which subjects each row of a batch is once it is read, -1 for padding."""
    known = examples.cohort.values.astype(np.float32)
    drawn = jax.tree.map(lambda x: x.reshape(-1), replace(drawn, scans={}, placed={}))
    rows = np.asarray(drawn.read(feed.tables, feed.tables.train_queries).visits.values)
    return [next((i for i in range(12) if np.array_equal(row, known[i])), -1) for row in rows]


def steps(feed: Feed, start: int, count: int) -> list:
    """That many batches from step `start` on, out of their chunks."""
    reader = feed.training(30)
    reader.set_state({"next_index": start // feed.chunk})
    chunks = list(islice(reader, -(-count // feed.chunk)))
    reader.close()
    return [jax.tree.map(lambda x, i=i: x[i], chunk) for chunk in chunks for i in range(feed.chunk)][:count]


def test_beside_others_a_member_sees_what_it_would_see_alone(made):
    loader, splits = Loader(made), [split(0), split(5)]
    feed = Feed(loader, splits, KEYS, BATCH, ROUND)
    both = steps(feed, 0, 6)
    for m in range(2):
        alone = Feed(loader, splits[m : m + 1], KEYS[m : m + 1], BATCH, ROUND)
        for one, other in zip(both, steps(alone, 0, 6), strict=True):
            mine = subjects(jax.tree.map(lambda x, m=m: x[m : m + 1], one), feed, made)
            assert mine == subjects(other, alone, made)
            assert set(mine) - {-1} <= set(np.flatnonzero(splits[m].train))


def test_training_goes_on_where_it_stopped(made):
    for where in (made, type(made)(made.cohort, without_scans(made.layout))):
        feed = Feed(Loader(where), [split(0)], KEYS[:1], BATCH, ROUND)
        assert feed.chunk == (1 if where is made else ROUND)
        whole, later = steps(feed, 0, 9), steps(feed, 6, 3)
        for one, other in zip(whole[6:], later, strict=True):
            for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
                np.testing.assert_array_equal(a, b)


def test_a_reader_says_where_it_stands_however_far_it_has_read_ahead(made):
    feed = Feed(Loader(made), [split(0)], KEYS[:1], BATCH, ROUND)
    reader = feed.training(9)
    for taken in range(1, 5):
        next(reader)
        assert reader.get_state() == {"next_index": taken}
    reader.close()
    assert len(steps(feed, 0, 30)) == 30
    assert len(list(feed.training(9))) == 9


def test_the_rows_of_a_step_are_those_of_its_batch(made):
    for parts in (1, 2):
        splits = [split(0), split(5)]
        feed = Feed(Loader(made), splits, KEYS, BATCH, ROUND, parts)
        for step, batch in enumerate(steps(feed, 0, 5)):
            for m in range(2):
                mine = jax.tree.map(lambda x, m=m: x[m], batch)
                assert [row for row in subjects(mine, feed, made) if row >= 0] == feed.rows(step, m)


def test_a_step_in_parts_has_as_many_batches_of_as_many_fewer_subjects(made):
    loader = Loader(made)
    whole = steps(Feed(loader, [split(0)], KEYS[:1], 4, ROUND), 0, 1)[0]
    parts = steps(Feed(loader, [split(0)], KEYS[:1], 4, ROUND, parts=2), 0, 1)[0]
    assert whole.weight.shape == (1, 4)
    assert parts.weight.shape == (1, 2, 2)


def test_what_is_kept_on_the_device_is_what_would_be_sent(made):
    """Scan by scan: a modality that fits the budget is read from its table, another is sent."""
    each = {name: int(made.cohort.present[name].sum()) * int(np.prod(grid)) * 4 for name, grid in grids(made).items()}
    for budget, kept in ((0, set()), (each["t1"], {"t1"}), (sum(each.values()), {"t1", "flair"})):
        feed = Feed(Loader(made), [split(0), split(5)], KEYS, BATCH, ROUND, device_bytes=budget)
        sent = Feed(Loader(made), [split(0), split(5)], KEYS, BATCH, ROUND)
        assert set(feed.tables.scans) == kept
        assert feed.chunk == (ROUND if len(kept) == 2 else 1)
        for one, other in zip(steps(feed, 0, 3), steps(sent, 0, 3), strict=True):
            mine = jax.vmap(lambda drawn, t=feed.tables: drawn.read(t, t.train_queries).seen(t))(one)
            for name, scans in other.scans.items():
                valid = np.asarray(scans.valid)
                np.testing.assert_array_equal(mine.scans[name].voxels[valid], scans.voxels[valid])
                for a, b in zip(jax.tree.leaves(mine.scans[name])[1:], jax.tree.leaves(scans)[1:], strict=True):
                    np.testing.assert_array_equal(a, b)


def grids(made) -> dict:
    return dict(zip(made.layout.modalities, made.layout.grids, strict=True))


def without_scans(layout):
    return type(layout)(layout.inputs, layout.static, layout.known, layout.targets, (), ())


def test_validation_shows_each_member_its_judges_once_and_asks_what_is_judged(made):
    splits = [split(0), split(5)]
    feed = Feed(Loader(made), splits, KEYS, 2, ROUND)
    batches = list(feed.validation())
    for m, one in enumerate(splits):
        mine = [jax.tree.map(lambda x, m=m: x[m], batch) for batch in batches]
        seen = [
            row
            for drawn in mine
            for row, weight in zip(subjects(drawn, feed, made), drawn.weight, strict=True)
            if weight
        ]
        assert sorted(seen) == np.flatnonzero(one.validation).tolist()
    whole = [jax.vmap(lambda one: one.read(feed.tables, feed.tables.eval_queries))(drawn) for drawn in batches]
    asked = sum(int((batch.query.valid * (batch.weight[..., None] > 0)).sum()) for batch in whole)
    assert asked == sum(int(made.eval_queries.query.valid[one.validation].sum()) for one in splits)


def test_a_subject_who_validates_may_need_more_room_than_any_who_trains(made):
    """Room is made for it, however small the batch."""
    counts = made.cohort.present["t1"].sum(1)
    most, few = int(np.argmax(counts)), counts < counts.max()
    train = few.copy()
    train[np.flatnonzero(few)[3:]] = False
    validation = np.arange(12) == most
    room = {}
    loader = Loader(made)
    asked = loader._needs[QUERIES][most]
    loader._needs = {name: count + 9 * validation for name, count in loader._needs.items()}  # as if it had many more
    loader._counts = {name: loader._needs[name] for name in loader._counts}
    feed = Feed(loader, [Split(train, validation, few & ~train)], KEYS[:1], 1, ROUND)
    room = next(iter(feed.validation())).scans["t1"].valid.shape[-1]
    assert room >= counts[most] + 9
    assert len(feed.tables.slots) >= asked + 9
