"""Pretraining: whose scans it sees, that it learns, and that it can be repeated."""

import dataclasses
import signal
from functools import partial

import jax
import numpy as np
import pytest

from framework.data.cohort.schema import Modality, Scan, Schema, Subject, Variable, Visit
from framework.data.cohort.store import Cohort, write
from framework.data.splits.split import Split
from framework.errors import UserError
from framework.nn.encoders.autoencoder import Convolutional, Decoder, Variational
from framework.nn.encoders.plain import Plain
from framework.train.reconstruction import CosineAdamW, Pretraining, Reconstruction, Shelf

pytestmark = pytest.mark.long

KEY = jax.random.key(0)
ORDER = np.arange(16)
SPLIT = Split(ORDER < 10, (ORDER >= 10) & (ORDER < 13), ORDER >= 13)
ADAM = CosineAdamW(learning_rate=0.01, weight_decay=0.0, max_grad_norm=1.0, warmup=2)
SHORT = Pretraining(ADAM, 0.0, batch=8, steps=8, eval_every=4, patience=9, cache_bytes=1 << 20)
LONG = dataclasses.replace(SHORT, steps=150, eval_every=50)
RECIPE = Reconstruction(partial(Convolutional, [4, 8], 4), None, partial(Decoder, [8, 4]), SHORT)


def ball(radius: float, shape: tuple[int, int, int]) -> np.ndarray:
    """A scan of one thing that differs: how large it is."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else [0.0] for n in shape), indexing="ij")
    return (1 / (1 + np.exp(12 * (np.sqrt(sum(a**2 for a in axes)) - radius))))[..., None].astype(np.float32)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Cohort:
    rng, shapes = np.random.default_rng(0), {"solid": (8, 9, 8), "slice": (9, 8, 1)}
    schema = Schema(
        (Variable("score", ("target",), "points"),),
        modalities=tuple(Modality(name, shape, (1.0, 1.0, 1.0)) for name, shape in shapes.items()),
    )

    def subject(i: int) -> Subject:
        visits = [
            Visit(f"v{j}", float(j), {}, {name: Scan(ball(r, shape)) for name, shape in shapes.items()})
            for j, r in enumerate(rng.uniform(0.2, 0.9, 2))
        ]
        return Subject(f"s{i:02}", tuple(visits))

    return write(str(tmp_path_factory.mktemp("cohort") / "c"), schema, map(subject, range(16)))


@dataclasses.dataclass(frozen=True)
class Guarded(Cohort):
    """A cohort that does not show its test subjects."""

    def voxels(self, modality, subject, visit):
        assert not SPLIT.test[subject]
        return super().voxels(modality, subject, visit)


def guarded(cohort: Cohort) -> Cohort:
    return Guarded(**{field.name: getattr(cohort, field.name) for field in dataclasses.fields(cohort)})


@pytest.mark.parametrize("modality", ["solid", "slice"])
def test_no_test_subjects_scan_is_ever_seen_and_others_are_learnt(cohort, modality):
    found = dataclasses.replace(RECIPE, training=LONG).fit(guarded(cohort), modality, SPLIT, KEY)
    assert found.scans == 20
    assert found.steps == 150
    assert found.error is not None
    assert found.floor is not None
    assert found.error < 0.5 * found.floor


@pytest.mark.parametrize(
    "encoder",
    [partial(Variational, RECIPE.encoder, 4, 0.01), partial(Plain, [4, 4], 2, 6)],
    ids=["variational", "plain"],
)
def test_any_encoder_can_be_pretrained(cohort, encoder):
    found = dataclasses.replace(RECIPE, encoder=encoder).fit(cohort, "slice", SPLIT, KEY)
    assert found.error is not None
    assert found.floor is not None
    assert np.isfinite(found.error)
    assert found.error < 2 * found.floor


def test_the_same_key_gives_the_same_encoder_and_another_another(cohort):
    first, again, other = (RECIPE.fit(cohort, "slice", SPLIT, key).weights for key in (KEY, KEY, jax.random.key(1)))
    for one, same in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, same)
    assert any((one != two).any() for one, two in zip(*map(jax.tree.leaves, (first, other)), strict=True))


def test_without_validation_it_runs_its_length_and_says_nothing_of_error(cohort):
    rows: list[dict] = []
    found = RECIPE.fit(cohort, "slice", Split(ORDER < 13, ORDER < 0, ORDER >= 13), KEY, rows.append)
    assert (found.error, found.floor, found.steps) == (None, None, 8)
    assert [row["step"] for row in rows] == [4, 8]
    assert all(np.isnan(row["validation"]) for row in rows)


@pytest.mark.parametrize("stopped", [3, 4, 7])
def test_an_interrupted_training_ends_bit_equal_to_one_that_was_not(cohort, tmp_path, monkeypatch, stopped):
    recipe = dataclasses.replace(RECIPE, training=dataclasses.replace(SHORT, dropout=0.3, checkpoint_steps=2))
    rows: list[dict] = []
    whole = recipe.fit(cohort, "slice", SPLIT, KEY, rows.append)
    batches, honest = [], Shelf.batch

    def counted(self, order, size):
        if len(order) == size:  # those that train
            batches.append(order)
            if len(batches) > stopped:
                raise KeyboardInterrupt
        return honest(self, order, size)

    with monkeypatch.context() as patch:
        patch.setattr(Shelf, "batch", counted)
        with pytest.raises(KeyboardInterrupt):
            recipe.fit(cohort, "slice", SPLIT, KEY, folder=tmp_path)
        stopped = 99
        batches.clear()
        again: list[dict] = []
        found = recipe.fit(cohort, "slice", SPLIT, KEY, again.append, tmp_path)
    assert 0 < len(batches) < 8, "it went on from a checkpoint"
    assert found.facts == whole.facts
    for one, same in zip(*map(jax.tree.leaves, (found.weights, whole.weights)), strict=True):
        np.testing.assert_array_equal(one, same)
    assert again == rows[-len(again) :]


def test_sigterm_ends_after_a_checkpoint_and_the_training_goes_on_from_there(cohort, tmp_path):
    def asks(row):
        if row["step"] == 4:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit, match="stopped by SIGTERM after step 4 of 8; the same command goes on"):
        RECIPE.fit(cohort, "slice", SPLIT, KEY, asks, tmp_path)
    rows: list[dict] = []
    found = RECIPE.fit(cohort, "slice", SPLIT, KEY, rows.append, tmp_path)
    assert [row["step"] for row in rows] == [8]
    for one, same in zip(
        *map(jax.tree.leaves, (found.weights, RECIPE.fit(cohort, "slice", SPLIT, KEY).weights)), strict=True
    ):
        np.testing.assert_array_equal(one, same)


def test_what_memory_holds_changes_no_encoder(cohort):
    little = dataclasses.replace(RECIPE, training=dataclasses.replace(SHORT, cache_bytes=0, checkpoint_steps=3))
    one, other = (recipe.fit(cohort, "slice", SPLIT, KEY).weights for recipe in (RECIPE, little))
    for mine, yours in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(mine, yours)


def test_it_stops_when_validation_gets_no_better(cohort):
    still = dataclasses.replace(LONG, optimizer=dataclasses.replace(ADAM, learning_rate=0.0), patience=2, eval_every=3)
    found = dataclasses.replace(RECIPE, training=still).fit(cohort, "slice", SPLIT, KEY)
    assert found.steps == 9


def test_a_shelf_keeps_no_more_than_it_has_room_for(cohort):
    reads = []

    class Counted(Cohort):
        def voxels(self, modality, subject, visit):
            reads.append((subject, visit))
            return super().voxels(modality, subject, visit)

    counted = Counted(**{field.name: getattr(cohort, field.name) for field in dataclasses.fields(cohort)})
    shelf = Shelf(counted, "slice", SPLIT.test, room=2 * 72 * 4)
    assert len(shelf) == 6
    for _ in range(2):
        list(shelf.scans())
    assert len(reads) == 6 + 4
    batch = shelf.batch([1, 5], 4)
    np.testing.assert_array_equal(batch.valid, [True, True, False, False])
    np.testing.assert_array_equal(batch.voxels[1], shelf.scan(15, 1))


def test_mistakes_are_told_before_training(cohort):
    with pytest.raises(UserError, match="no image encoder"):
        dataclasses.replace(RECIPE, encoder=None)
    with pytest.raises(UserError, match=r"solid: .*at least 16 voxels"):
        dataclasses.replace(RECIPE, encoder=partial(Plain, [4] * 4, 2, 6)).fit(cohort, "solid", SPLIT, KEY)
    with pytest.raises(UserError, match=r"training\.batch is 0"):
        dataclasses.replace(SHORT, batch=0)
    fast = dataclasses.replace(ADAM, learning_rate=1e30)
    wild = dataclasses.replace(RECIPE, training=dataclasses.replace(SHORT, optimizer=fast))
    with pytest.raises(UserError, match=r"slice: the loss is not finite"):
        wild.fit(cohort, "slice", SPLIT, KEY)
