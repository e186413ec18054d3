"""Copies that were changed are told from people who are alike, in points, scans and tables."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import affine_transform, gaussian_filter

from framework.evaluate.leakage import near_duplicates as module
from framework.evaluate.leakage.gap_test import FEWEST, copied
from framework.evaluate.leakage.near_duplicates import near
from framework.evaluate.leakage.scan_similarity import reduced, scan_similarity
from tests.evaluate.leakage.plants import InMemory, cohort

PEOPLE = 40


def apart(points: np.ndarray) -> np.ndarray:
    return np.log(np.linalg.norm(points[:, None] - points, axis=-1) + 1e-12)


@pytest.mark.parametrize("clustered", [False, True])
def test_nobody_is_a_copy_among_points_drawn_by_chance(clustered):
    """In few and many dimensions, few and many points, also where sites, scales and noise differ."""
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(150):
        people, dimensions = int(rng.integers(FEWEST, 150)), int(rng.integers(2, 40))
        points = rng.normal(size=(people, dimensions)) * rng.gamma(1, 1, dimensions)
        if clustered:
            sites = rng.integers(0, 6, people)
            points = points * rng.uniform(0.7, 1.4, 6)[sites, None] + rng.normal(size=(6, dimensions))[sites]
        alarms += bool(copied(apart(points)))
    assert not alarms


@pytest.mark.parametrize("copies", [1, 3])
def test_one_copy_among_many_and_many_faint_ones_are_found(copies):
    rng = np.random.default_rng(1)
    points = rng.normal(size=(60, 12))
    near_by = points[:1] + 0.05 * rng.normal(size=(copies, 12))
    (found,) = copied(apart(np.concatenate([points, near_by])))
    assert {found.subject, *found.others} == {0, *range(60, 60 + copies)}
    faint = points + 0.35 * rng.normal(size=points.shape)
    found = copied(apart(np.concatenate([points, faint])))
    assert len(found) > 30
    assert all(one.subject % 60 in {other % 60 for other in one.others} for one in found)
    assert not copied(apart(np.concatenate([points, faint[:1]])))  # one so faint might be chance


def test_few_people_say_nothing():
    assert not copied(apart(np.zeros((FEWEST - 1, 3))))


def heads(people: int, seed: int = 0, side: int = 20) -> np.ndarray:
    """Heads: one shape, bent and coloured by each person's own smooth fields, with noise."""
    rng = np.random.default_rng(seed)
    u = np.stack(np.meshgrid(*[np.linspace(-1, 1, side)] * 3, indexing="ij"))
    radius = np.sqrt((u**2 / np.array([0.5, 0.7, 0.6]).reshape(3, 1, 1, 1) ** 2).sum(0))
    made = []
    for _ in range(people):
        field = gaussian_filter(rng.normal(size=radius.shape), side / 7)
        told = (1 + 0.4 * field / field.std()) * (radius + 0.05 * rng.normal() < 1) * (1.2 - 0.5 * radius)
        made.append(gaussian_filter(told, 0.7) + 0.01 * rng.normal(size=radius.shape))
    return np.stack(made)[..., None].astype(np.float32)


def moved(scan: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    turn = np.eye(3) + np.deg2rad(4) * np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]]) * rng.uniform(-1, 1, (3, 1))
    middle = (np.array(scan.shape[:3]) - 1) / 2
    return affine_transform(scan[..., 0], turn, middle - turn @ middle + rng.uniform(-1, 1, 3), order=1)[..., None]


CHANGES = {
    "mirrored": lambda scan, rng: np.flip(scan, int(rng.integers(3))),
    "moved": moved,
    "noised": lambda scan, rng: scan + 0.015 * rng.normal(size=scan.shape),
    "gamma": lambda scan, rng: np.maximum(scan, 0) ** rng.uniform(0.8, 1.25),
    "mirrored and moved": lambda scan, rng: moved(np.flip(np.maximum(scan, 0) ** 1.05, 0), rng),
}


@pytest.fixture(scope="module")
def scans():
    return heads(PEOPLE)


@pytest.mark.parametrize("change", CHANGES)
def test_scans_that_were_augmented_before_the_split_are_found(scans, change):
    rng = np.random.default_rng(2)
    copies = [CHANGES[change](scan, rng) for scan in scans[: PEOPLE // 2]]
    small = np.stack([reduced(scan) for scan in [*scans, *copies]])
    found = copied(scan_similarity(small, np.arange(len(small)), len(small)))
    right = [one for one in found if one.subject % PEOPLE in {other % PEOPLE for other in one.others}]
    assert len(right) >= 0.6 * PEOPLE / 2
    assert len(found) - len(right) <= 1


@pytest.mark.parametrize("side", [8, 32])
def test_different_heads_are_no_copies_nor_are_visits_of_one_person(side):
    scans = heads(30, 5, side)
    later = scans + 0.01 * np.random.default_rng(6).normal(size=scans.shape)
    small = np.stack([reduced(scan) for scan in [*scans, *later]])
    assert not copied(scan_similarity(small, np.tile(np.arange(30), 2), 30))


def test_images_of_one_slice_have_mirror_images_of_their_own():
    rng = np.random.default_rng(7)
    images = np.stack([gaussian_filter(rng.normal(size=(32, 32, 1)), (2, 2, 0)) for _ in range(60)])[..., None]
    small = np.stack([reduced(one) for one in [*images, *np.flip(images[:3], 2)]])
    assert {one.subject % 60 for one in copied(scan_similarity(small, np.arange(63), 63))} == {0, 1, 2}
    assert not copied(scan_similarity(small[:60], np.arange(60), 60))


def jittered(made: InMemory, rows: list[int], by: float, seed: int = 0) -> InMemory:
    """The cohort with copies of some subjects whose numbers are off by a share of their spread."""
    spread = np.std(made.values[made.valid], axis=0)
    off = by * spread * np.random.default_rng(seed).normal(size=made.values[rows].shape)
    entries = made.manifest["subjects"]
    copies = [{"id": f"copy of {entries[row]['id']}", "visits": entries[row]["visits"]} for row in rows]
    return replace(
        made,
        manifest={**made.manifest, "subjects": [*entries, *copies]},
        values=np.concatenate([made.values, np.where(made.observed[rows], made.values[rows] + off, 0)]),
        **{
            name: np.concatenate([table := getattr(made, name), table[rows]])
            for name in ("times", "observed", "static", "static_observed")
        },
    )


@pytest.mark.parametrize(("rows", "by"), [([3], 0.02), ([3, 7], 0.1), (list(range(60)), 0.2)])
def test_measurements_with_jitter_are_found(rows, by):
    found = near(jittered(cohort(1, 60), rows, by), (), {})
    pairs = {(row, 60 + i) for i, row in enumerate(rows)}
    assert len(pairs & set(found.pairs)) >= 0.9 * len(pairs)
    assert set(found.pairs) <= pairs
    assert found.compared == (f"the measurements of {60 + len(rows)} of {60 + len(rows)} subjects",)


def test_identical_people_are_left_to_who_knows_them_already():
    made = jittered(cohort(1, 60), [3], 0.0)
    assert set(near(made, (), {}).pairs) == {(3, 60)}
    assert not near(made, (), {(3, 60): 1}).pairs


@pytest.mark.parametrize("digits", [9, 1, 0])
def test_people_alike_by_chance_are_no_copies(digits):
    made = cohort(3, 120)
    assert not near(replace(made, values=np.round(made.values, digits)), (), {}).pairs


def test_no_more_is_compared_than_time_allows(monkeypatch):
    monkeypatch.setattr(module, "MOST", 30)
    found = near(cohort(1, 60), (), {})
    assert found.compared == ("the measurements of 30 of 60 subjects",)
    present = np.ones((20, 3), bool)
    assert module._firsts(present).tolist() == [[i, 0] for i in range(20)]
