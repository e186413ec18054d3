"""Whatever is damaged in a cohort on disk is refused in one line, or changes nothing that is read."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from framework.data.cohort.schema import Modality, Scan, Schema, Subject, Variable, Visit
from framework.data.cohort.store import append, open_cohort, verify, write, writing
from framework.data.cohort.store import files as stored
from framework.data.ingest.base import ingest, ledger_of
from framework.data.ingest.identity import require_same
from framework.data.ingest.table import Table
from framework.errors import UserError


class Killed(BaseException):
    """What no handler of errors hears of."""


SCHEMA = Schema(
    (Variable("score"),), (Variable("sex", levels=("F", "M")),), (Modality("T1w", (2, 3, 4), (1.0, 1.0, 1.0)),)
)


def subject(number: int, visits: int) -> Subject:
    rng = np.random.default_rng(number)
    scans = [{"T1w": Scan(rng.normal(size=(2, 3, 4, 1)).astype(np.float32))} if j != 1 else {} for j in range(visits)]
    made = (Visit(f"v{j}", 0.5 * j, {"score": float(rng.normal())}, scan) for j, scan in enumerate(scans))
    return Subject(f"p{number}", tuple(made), {"sex": "M"})


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "c"
    write(str(folder), SCHEMA, (subject(i, 2 + i % 2) for i in range(3)))
    return folder


@pytest.fixture
def store(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "c"))


def read(store: Path) -> list[np.ndarray]:
    """All that a cohort has to say, by each way of reading it."""
    cohort = open_cohort(str(store))
    scans = [cohort.voxels("T1w", int(i), int(j)) for i, j in np.argwhere(cohort.present["T1w"])]
    variables = cohort.dataset.variables
    return [
        cohort.times,
        cohort.values,
        cohort.observed,
        cohort.static,
        *scans,
        *(v.values for v in variables.values()),
    ]


@pytest.mark.parametrize("table", ["times", "values", "observed", "static", "static_observed"])
def test_a_table_whose_chunks_are_gone_is_not_read_as_zeros(store, table):
    shutil.rmtree(store / "series.zarr" / table / "c")
    with pytest.raises(UserError, match=r"not those that were written|is not the one that was written"):
        open_cohort(str(store))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "flipped": lambda held: held[: len(held) // 2] + bytes([held[len(held) // 2] ^ 4]) + held[len(held) // 2 + 1 :],
    "cut": lambda held: held[: len(held) // 2],
    "zeroed": lambda held: bytes(len(held)),
    "empty": lambda held: b"",
    "longer": lambda held: held + held[-7:],
    "edited": lambda held: held.replace(b"3", b"2").replace(b'"score"', b'"stage"'),
}


def faults(store: Path) -> Iterator[tuple[str, Path]]:
    """Each damage to each file in turn, and each file gone."""
    for file in sorted(file for file in store.rglob("*") if file.is_file()):
        held = file.read_bytes()
        for name, damage in DAMAGES.items():
            if damage(held) != held:
                file.write_bytes(damage(held))
                yield name, file
        file.unlink()
        yield "gone", file
        file.write_bytes(held)


def test_no_damage_to_any_file_gives_other_numbers(store):
    expected, refused = read(store), 0
    for name, file in faults(store):
        try:
            found = read(store)
        except UserError as error:
            refused += "\n" not in str(error)
            continue
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"{file.relative_to(store)} {name}")
    assert refused > 50


def test_two_scans_that_changed_places_are_refused(store):
    first, second = (store / "series.zarr" / "scan_T1w" / "c" / f"{i}/0/0/0/0/0" for i in (0, 2))
    held = first.read_bytes()
    shutil.copy(second, first)
    second.write_bytes(held)
    cohort = open_cohort(str(store))
    with pytest.raises(UserError, match="'p0', visit 'v0', T1w: voxels changed"):
        cohort.voxels("T1w", 0, 0)
    with pytest.raises(UserError, match="voxels changed"):
        cohort.dataset["scan_T1w"].load()


def test_the_dataset_reads_the_scans_that_are_asked_for(store):
    cohort = open_cohort(str(store))
    scans = cohort.dataset["scan_T1w"]
    assert scans.shape == (3, 3, 2, 3, 4, 1)
    np.testing.assert_array_equal(scans.isel(subject=1, visit=2).values, cohort.voxels("T1w", 1, 2))
    part = scans.isel(visit=slice(0, None, 2), x_scan_T1w=1).sel(subject=["p1", "p2"])
    np.testing.assert_array_equal(part.values[0, 1], cohort.voxels("T1w", 1, 2)[1])
    assert np.isnan(part.values[1, 1]).all()  # the third visit of a subject of two
    shutil.rmtree(store / "series.zarr" / "scan_T1w" / "c" / "0")
    scans.isel(subject=1).load()  # of another subject


def test_a_cohort_without_digests_is_refused_with_the_command_that_writes_it_anew(store):
    file = store / "manifest.json"
    told = json.loads(file.read_text())["manifest"]
    file.write_text(json.dumps(told))
    with pytest.raises(UserError, match=r"before manifests had digests; write it again: .*if_exists=overwrite"):
        open_cohort(str(store))
    old = told | {"format": 2}
    file.write_text(json.dumps({"digest": stored.digest_json(old), "manifest": old}))
    with pytest.raises(UserError, match=r"by prognax \d\S* in format 2; expected format 3.*if_exists=overwrite"):
        open_cohort(str(store))


def test_an_append_extends_the_digests(store):
    grown = append(str(store), [subject(7, 5)])
    at_once = write(f"{store}-2", SCHEMA, [*(subject(i, 2 + i % 2) for i in range(3)), subject(7, 5)])
    assert grown.manifest["tables"] == at_once.manifest["tables"]


def table(file: Path, subject: str) -> Table:
    file.write_text(f"subject,time,score\n{subject},0,1\n{subject},1,\n")
    return Table(str(file), "subject", {"column": "time"}, variables={"score": {}})


@pytest.fixture
def ingested(tmp_path) -> str:
    ingest(table(tmp_path / "a.csv", "p"), str(tmp_path / "c"))
    return str(tmp_path / "c")


def test_an_edited_ledger_is_refused_and_named_by_verify(ingested, tmp_path):
    file = Path(ingested) / "ledger.csv"
    file.write_text(file.read_text().replace("p,", "q,"))
    with pytest.raises(UserError, match=r"ledger.csv of the cohort at .* is not what was written"):
        ledger_of(ingested)
    with pytest.raises(UserError, match="not what was written"):
        ingest(table(tmp_path / "b.csv", "q"), ingested, if_exists="append")
    assert ["ledger.csv" in line for line in verify(ingested)] == [True]


@pytest.mark.parametrize("after", ["write_manifest", "beside_digests"])
def test_an_append_killed_around_its_commit_has_the_ledger_of_its_subjects(ingested, tmp_path, monkeypatch, after):
    """Killed right before the manifest is there, or right after."""

    def killed(name: str):
        done = getattr(writing, name)

        def then(*given):
            done(*given)
            raise Killed

        return then

    with monkeypatch.context() as patch:
        patch.setattr(writing, after, killed(after))
        patch.setattr(writing, "settle", lambda path: None)  # nothing is cleaned up by whoever is killed
        with pytest.raises(Killed):
            ingest(table(tmp_path / "b.csv", "q"), ingested, if_exists="append")
    assert list(verify(ingested)) == []
    subjects = list(open_cohort(ingested).subjects)
    assert subjects == (["p", "q"] if after == "write_manifest" else ["p"])
    assert list(ledger_of(ingested).used()) == subjects
    ingest(table(tmp_path / "d.csv", "r"), ingested, if_exists="append")
    assert list(ledger_of(ingested).used()) == [*subjects, "r"]
    assert sorted(path.name for path in Path(ingested).iterdir()) == ["ledger.csv", "manifest.json", "series.zarr"]


@pytest.mark.parametrize("text", ["{", "[]", '{"1-2-3-4": 5}'])
def test_damaged_stamps_are_made_anew(ingested, tmp_path, text):
    (Path(ingested) / "stamps.json").write_text(text)
    reader = table(tmp_path / "a.csv", "p")
    require_same(open_cohort(ingested), reader.settings, reader.files())
