"""The cohort on disk: what goes in comes out, and whatever is lost or changed is named."""

import signal
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest

from framework.data.cohort.schema import Modality, Scan, Schema, Source, Subject, Variable, Visit
from framework.data.cohort.store import append, exists, open_cohort, sha256_file, verify, write
from framework.errors import UserError

SCHEMA = Schema(
    (Variable("score"), Variable("stage", levels=("low", "high"))),
    (Variable("sex", levels=("F", "M")),),
    (Modality("T1w", (4, 5, 6), (1.0, 1.0, 1.0)), Modality("CT", (3, 3, 3), (2.0, 2.0, 2.0))),
)


def subject(number: int, visits: int = 3, shift: float = 0.0) -> Subject:
    """A subject with a T1w at each visit, a CT at the first, and a score missing at the second."""
    rng = np.random.default_rng(number)

    def visit(j: int) -> Visit:
        voxels = rng.normal(size=(4, 5, 6, 1)).astype(np.float32) + np.float32(shift)
        scans = {"T1w": Scan(voxels, Source(f"s{number}_{j}.nii", "0" * 64))}
        if j == 0:
            scans["CT"] = Scan(np.ones((3, 3, 3, 1), np.float32))
        values = {"score": None if j == 1 else float(number + j), "stage": "high"}
        return Visit(f"v{j}", j * 0.75, values, scans)

    return Subject(f"p{number}", tuple(visit(j) for j in range(visits)), {"sex": "M"} if number else {})


def cohort(path: Path | str, count: int = 4, subjects_per_shard: int = 1):
    return write(
        str(path), SCHEMA, (subject(i, visits=2 + i % 2) for i in range(count)), subjects_per_shard=subjects_per_shard
    )


@pytest.mark.parametrize("subjects_per_shard", [1, 3])
def test_what_goes_in_comes_out(tmp_path, subjects_per_shard):
    made = cohort(tmp_path / "c", subjects_per_shard=subjects_per_shard)
    assert len(shards(tmp_path / "c")) == {1: 8, 3: 4}[subjects_per_shard]  # of two modalities
    assert made.subjects == ("p0", "p1", "p2", "p3")
    assert made.visits[1] == ("v0", "v1", "v2")
    np.testing.assert_array_equal(made.valid.sum(1), [2, 3, 2, 3])
    np.testing.assert_array_equal(made.times[1], [0, 0.75, 1.5])
    np.testing.assert_array_equal(made.values[1, :, made.column("score")], [1, 0, 3])
    np.testing.assert_array_equal(made.observed[1, :, 0], [True, False, True])
    np.testing.assert_array_equal(made.static_observed[:, 0], [False, True, True, True])
    np.testing.assert_array_equal(made.present["CT"], np.arange(3) == np.zeros((4, 1)))
    for i in range(4):
        for j, visit in enumerate(subject(i, 2 + i % 2).visits):
            np.testing.assert_array_equal(made.voxels("T1w", i, j), visit.scans["T1w"].voxels)
    assert list(verify(made.path)) == []
    assert made.fingerprint == cohort(tmp_path / "alone").fingerprint


def test_an_unlisted_scan_is_not_invented(tmp_path):
    with pytest.raises(UserError, match="'p1', visit 'v1', CT"):
        cohort(tmp_path / "c").voxels("CT", 1, 1)


def shards(path: Path) -> list[Path]:
    """Every file that holds a scan."""
    return sorted(file for file in path.glob("series.zarr/scan_*/c/**/*") if file.is_file())


def test_a_flipped_bit_in_every_third_shard_is_found(tmp_path):
    cohort(tmp_path / "c")
    damaged = shards(tmp_path / "c")[::3]
    for file in damaged:
        content = bytearray(file.read_bytes())
        content[len(content) // 3] ^= 1
        file.write_bytes(content)
    found = list(verify(str(tmp_path / "c")))
    # "c/2/0/0/0/0/0" below "scan_T1w" is subject 2
    expected = {(file.parts[-6], file.parts[-8].removeprefix("scan_")) for file in damaged}
    named = {(line.split("'")[1][1:], line.split(", ")[2].split(":")[0]) for line in found}
    assert len(damaged) == 3
    assert named == expected, found


def test_no_flipped_bit_is_read_as_a_voxel(tmp_path):
    """Reading alone, without verify, gives the voxels that were written or raises."""
    made = cohort(tmp_path / "c", count=1)
    file = shards(tmp_path / "c")[-1]
    whole, raised = file.read_bytes(), 0
    for at in np.random.default_rng(0).integers(0, len(whole), 60).tolist():
        content = bytearray(whole)
        content[at] ^= 1 << at % 8
        file.write_bytes(content)
        for j, visit in enumerate(subject(0, 2).visits):
            try:
                np.testing.assert_array_equal(open_cohort(made.path).voxels("T1w", 0, j), visit.scans["T1w"].voxels)
            except UserError:
                raised += 1
    assert raised >= 60  # each byte belongs to one visit's chunk, or to the index of both


def test_a_deleted_chunk_is_named_with_its_source(tmp_path):
    made = cohort(tmp_path / "c")
    next(f for f in shards(tmp_path / "c") if "scan_T1w/c/2" in f.as_posix()).unlink()
    assert [line.split(":")[0] for line in verify(made.path)] == [f"subject 'p2', visit 'v{j}', T1w" for j in range(2)]
    assert all("(from s2_" in line for line in verify(made.path))
    with pytest.raises(UserError, match="missing"):
        open_cohort(made.path).voxels("T1w", 2, 0)


def test_changed_sources_are_named(tmp_path):
    (tmp_path / "scan.nii").write_bytes(b"one")
    source = Source("scan.nii", sha256_file(str(tmp_path / "scan.nii")))
    visit = Visit("v0", 0.0, {}, {"CT": Scan(np.ones((3, 3, 3, 1), np.float32), source)})
    made = write(str(tmp_path / "c"), SCHEMA, [Subject("p", (visit,))])
    assert list(verify(made.path, str(tmp_path))) == []
    (tmp_path / "scan.nii").write_bytes(b"two")
    assert ["scan.nii changed" in line for line in verify(made.path, str(tmp_path))] == [True]
    (tmp_path / "scan.nii").unlink()
    assert ["scan.nii is missing" in line for line in verify(made.path, str(tmp_path))] == [True]


@pytest.mark.parametrize("table", ["times", "values", "observed", "static"])
def test_a_lost_table_is_found(tmp_path, table):
    made = cohort(tmp_path / "c")
    for file in (tmp_path / "c" / "series.zarr" / table / "c").rglob("*"):
        if file.is_file():
            file.unlink()
    found = list(verify(made.path))
    assert found
    assert all("clinical values" in line for line in found)


def test_a_shard_of_several_subjects_that_is_damaged_or_gone_names_its_scans(tmp_path):
    made = cohort(tmp_path / "c", subjects_per_shard=3)
    first = next(f for f in shards(tmp_path / "c") if "scan_T1w/c/0" in f.as_posix())
    whole = bytearray(first.read_bytes())
    whole[len(whole) // 8] ^= 1
    first.write_bytes(whole)
    found = list(verify(made.path))
    assert 1 <= len(found) <= 7
    assert all(", T1w" in line for line in found)
    first.unlink()
    named = [line.split(":")[0] for line in verify(made.path)]
    assert named == [f"subject 'p{i}', visit 'v{j}', T1w" for i in range(3) for j in range(2 + i % 2)]


@pytest.mark.parametrize("subjects_per_shard", [1, 3])
def test_append_is_as_if_written_at_once(tmp_path, subjects_per_shard):
    whole = write(str(tmp_path / "whole"), SCHEMA, [subject(i, 2 + i) for i in range(4)])
    write(str(tmp_path / "c"), SCHEMA, [subject(i, 2 + i) for i in range(2)], subjects_per_shard=subjects_per_shard)
    grown = append(str(tmp_path / "c"), [subject(i, 2 + i) for i in range(2, 4)])
    assert grown.fingerprint == whole.fingerprint
    assert list(verify(grown.path)) == []
    np.testing.assert_array_equal(grown.voxels("T1w", 3, 4), whole.voxels("T1w", 3, 4))
    assert len(shards(tmp_path / "c")) == {1: 8, 3: 4}[subjects_per_shard]  # new subjects fill the shard that had room


@pytest.mark.parametrize("subjects_per_shard", [1, 3])
def test_an_append_that_fails_changes_nothing(tmp_path, subjects_per_shard):
    before = cohort(tmp_path / "c", subjects_per_shard=subjects_per_shard)
    with pytest.raises(UserError, match="'p0' is in the cohort already"):
        append(before.path, [subject(7, 5), subject(0)])
    after = open_cohort(before.path)
    assert after.fingerprint == before.fingerprint
    assert after.times.shape == before.times.shape
    assert list(verify(after.path)) == []
    # what it left behind is overwritten by the next
    assert append(before.path, [subject(8, 2)]).subjects[-1] == "p8"
    assert list(verify(before.path)) == []


def test_a_write_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match="p1"):
        write(str(tmp_path / "c"), SCHEMA, [subject(0), subject(1), subject(1)])
    assert not (tmp_path / "c").exists()
    with pytest.raises(UserError, match="no subject"):
        write(str(tmp_path / "c"), SCHEMA, [])
    assert not (tmp_path / "c").exists()


KILLED = """
import os, signal, sys
from framework.data.cohort.schema import Schema, Subject, Variable, Visit
from framework.data.cohort.store import write

def subjects():
    yield Subject("p0", (Visit("v0", 0.0, {"score": 1.0}),))
    os.kill(os.getpid(), signal.SIGKILL)

write(sys.argv[1], Schema((Variable("score"),)), subjects())
"""


def test_an_ingest_that_was_killed_is_no_cohort_and_starts_anew(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "c")], cwd=Path(__file__).parents[3], check=False
    )
    assert ended.returncode == -signal.SIGKILL
    assert (tmp_path / "c").exists()
    assert not exists(str(tmp_path / "c"))
    with pytest.raises(UserError, match="no cohort"):
        open_cohort(str(tmp_path / "c"))
    assert list(verify(cohort(tmp_path / "c").path)) == []


def test_a_store_is_never_overwritten(tmp_path):
    cohort(tmp_path / "c")
    with pytest.raises(UserError, match="already"):
        cohort(tmp_path / "c")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "thesis.doc").touch()
    with pytest.raises(UserError, match="other files"):
        cohort(tmp_path / "d")
    assert (tmp_path / "d" / "thesis.doc").exists()


def test_a_store_can_be_any_url(tmp_path):
    there = cohort("memory://store/cohort")
    try:
        assert list(verify("memory://store/cohort")) == []
        assert there.fingerprint == cohort(tmp_path / "c").fingerprint
        np.testing.assert_array_equal(there.voxels("T1w", 1, 2), open_cohort(str(tmp_path / "c")).voxels("T1w", 1, 2))
    finally:
        fsspec.filesystem("memory").rm("/store", recursive=True)


def test_the_fingerprint_is_of_the_data_alone(tmp_path):
    first, second = cohort(tmp_path / "a"), cohort(tmp_path / "b")
    assert first.fingerprint == second.fingerprint == open_cohort(second.path).fingerprint
    same, last = [subject(i, 2 + i % 2) for i in range(3)], subject(3, 3)
    others = [
        same,  # fewer subjects
        [*same, subject(3, 3, shift=1e-6)],  # other voxels
        [*same, Subject("p3", last.visits, {"sex": "F"})],  # another value
        [*same, Subject("p4", last.visits, last.static)],  # another id
    ]
    prints = {write(str(tmp_path / f"o{i}"), SCHEMA, made).fingerprint for i, made in enumerate(others)}
    assert len(prints | {first.fingerprint}) == 5


def test_opening_reads_no_voxel(tmp_path):
    made = cohort(tmp_path / "c")
    for file in shards(tmp_path / "c"):
        file.unlink()
    opened = open_cohort(made.path)
    np.testing.assert_array_equal(opened.values, made.values)
    dataset = opened.dataset
    assert dict(dataset.sizes)["subject"] == 4
    assert list(dataset.subject.values) == list(made.subjects)
