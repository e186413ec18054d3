"""A folder of NIfTI files named by a visits table, and how a cohort is replaced or grown."""

import os
from pathlib import Path

import fsspec
import numpy as np
import pytest

from framework.data.cohort.ledger import Entry, Ledger
from framework.data.cohort.store import open_cohort, verify
from framework.data.ingest.base import LEDGER, Ingested, Reader, ingest
from framework.data.ingest.nifti import Nifti
from framework.data.ingest.table import Table
from framework.errors import UserError

GRID = {"shape": [6, 6, 6], "spacing": [10, 10, 10]}
TEXT = "subject,visit,time,T1,score\na,1,0,a/one.nii.gz,1\na,2,1,a/two.nii,\nb,1,0,,4\n"


@pytest.fixture
def reader(save):
    def made(root: Path, text: str = TEXT, **changed) -> Nifti:
        root.mkdir(exist_ok=True)
        for seed, name in enumerate(("a/one.nii.gz", "a/two.nii", "c.nii")):
            save(root / name, seed)
        (root / "visits.csv").write_text(text)
        visits = Table(str(root / "visits.csv"), "subject", {"column": "time"}, "visit", variables={"score": {}})
        return Nifti(str(root), visits, **{"modalities": {"T1w": GRID}, "files": {"T1w": "T1"}} | changed)

    return made


def test_files_are_found_by_the_table(reader, tmp_path):
    made = ingest(reader(tmp_path / "d"), str(tmp_path / "c"))
    np.testing.assert_array_equal(made.present["T1w"], [[True, True], [False, False]])
    assert [e for e in Ledger.read(f"{made.path}/{LEDGER}").entries if e.status != "used"] == [
        Entry("a", "2", "score", "missing", "no value in column 'score'"),
        Entry("b", "1", "T1w", "missing", "no file in column 'T1'"),
    ]
    assert list(verify(made.path, str(tmp_path / "d"))) == []
    assert made.manifest["subjects"][0]["visits"][1]["scans"]["T1w"]["source"] == "a/two.nii"


def test_a_named_file_that_is_not_there(reader, tmp_path):
    text = TEXT.replace("two.nii", "too.nii")
    with pytest.raises(UserError, match=r"'a', visit '2': visits.csv line 3 names a/too.nii, which is not in"):
        reader(tmp_path / "d", text).read()
    made = ingest(
        reader(tmp_path / "d", TEXT.replace("two.nii", "too.nii").replace("1,4", "1,4"), on_error="exclude"),
        str(tmp_path / "c"),
    )
    excluded = [e for e in Ledger.read(f"{made.path}/{LEDGER}").entries if e.status == "excluded"]
    assert {(e.visit, e.item) for e in excluded} == {("2", "visit"), ("2", "T1w")}
    assert "No such file" in str(excluded)


def test_a_named_file_that_is_a_pipe_is_refused_unopened(reader, tmp_path):
    made = reader(tmp_path / "d")
    (tmp_path / "d/a/two.nii").unlink()
    os.mkfifo(tmp_path / "d/a/two.nii")
    with pytest.raises(UserError, match=r"line 3 names a/two.nii, which cannot be read: it is a pipe"):
        made.read()


def test_a_modality_of_which_no_scan_can_be_used_is_refused(reader, tmp_path):
    """Such a cohort would be one of numbers alone, and say so in its ledger only."""
    made = reader(tmp_path / "d", on_error="exclude")
    for name in ("a/one.nii.gz", "a/two.nii"):
        (tmp_path / "d" / name).write_bytes(b"no scan")
    with pytest.raises(UserError, match=r"no scan of T1w can be used, so nothing is written; the first: a/one.nii.gz"):
        ingest(made, str(tmp_path / "c"))
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("cell", ["{root}/a/two.nii", "../d/a/two.nii", "a/../a/two.nii"])
@pytest.mark.parametrize("on_error", ["stop", "exclude"])
def test_files_lie_inside_the_folder(reader, tmp_path, cell, on_error):
    """Others were read, and then called missing when the cohort was verified."""
    text = TEXT.replace("a/two.nii", cell.format(root=tmp_path / "d"))
    with pytest.raises(UserError, match=r"'a', visit '2': visits.csv line 3 names .* by their path inside it"):
        reader(tmp_path / "d", text, on_error=on_error).read()


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"files": {"T1": "T1"}}, "files names"),
        ({"files": {}}, "files of T1w: column 'T1w' is unknown; did you mean 'T1'"),
        ({"path": "nowhere"}, "nothing at nowhere"),
    ],
)
def test_a_wrong_configuration_is_refused(reader, tmp_path, changed, complaint):
    def read():
        made = reader(tmp_path / "d", **{key: value for key, value in changed.items() if key != "path"})
        made.path = changed.get("path", made.path)
        return made.read()

    with pytest.raises(UserError, match=complaint):
        read()


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_a_cohort_is_refused_replaced_or_grown(reader, tmp_path, where):
    store = str(tmp_path / "c") if where == "folder" else f"memory://{tmp_path}/c"
    first = ingest(reader(tmp_path / "d"), store)
    more = "subject,visit,time,T1,score\nc,1,0,c.nii,1\n"
    with pytest.raises(UserError, match="if_exists=overwrite"):
        ingest(reader(tmp_path / "d"), store)
    with pytest.raises(UserError, match="if_exists is"):
        ingest(reader(tmp_path / "d"), store, "replace")

    grown = ingest(reader(tmp_path / "d", more), store, "append")
    assert grown.subjects == ("a", "b", "c")
    assert list(verify(store)) == []
    assert list(Ledger.read(f"{store}/{LEDGER}").used()) == ["a", "b", "c"]
    files, root = fsspec.url_to_fs(store)
    assert sorted(Path(name).name for name in files.ls(root, detail=False)) == [LEDGER, "manifest.json", "series.zarr"]

    (tmp_path / "c.new").mkdir()  # left by a replacement that was killed
    replaced = ingest(reader(tmp_path / "d"), store, "overwrite")
    assert replaced.fingerprint == first.fingerprint
    assert list(verify(store)) == []
    assert "c.new" not in [Path(name).name for name in files.ls(str(Path(root).parent), detail=False)]


@pytest.mark.parametrize("if_exists", ["append", "overwrite"])
def test_a_failure_leaves_the_cohort_that_was_there(reader, tmp_path, if_exists):
    store = str(tmp_path / "c")
    first = ingest(reader(tmp_path / "d"), store)
    ledger = Ledger.read(f"{store}/{LEDGER}").entries
    broken = reader(tmp_path / "d", "subject,visit,time,T1,score\nd,1,0,a/one.nii.gz,1\ne,1,0,c.nii,1\n")
    (tmp_path / "d" / "c.nii").write_bytes(b"no scan")
    with pytest.raises(UserError, match=r"'e', visit '1', T1w: cannot read c.nii"):
        ingest(broken, store, if_exists)
    assert open_cohort(store).fingerprint == first.fingerprint
    assert list(verify(store)) == []
    assert Ledger.read(f"{store}/{LEDGER}").entries == ledger
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c", "d"]


def test_an_append_must_have_the_same_schema(reader, tmp_path):
    store = str(tmp_path / "c")
    ingest(reader(tmp_path / "d"), store)
    with pytest.raises(UserError, match="schema"):
        ingest(reader(tmp_path / "d", modalities={"T1w": GRID | {"shape": [7, 6, 6]}}), store, "append")


def test_nothing_used_is_nothing_written(reader, tmp_path):
    with pytest.raises(UserError, match=r"no subject can be used.*no time in column 'time' \(1 times\)"):
        ingest(reader(tmp_path / "d", "subject,visit,time,T1,score\na,1,,c.nii,1\n"), str(tmp_path / "c"))
    assert not (tmp_path / "c").exists()


def test_a_reader_that_forgets_a_visit_in_the_ledger_writes_nothing(reader, tmp_path):
    class Forgetful(Reader):
        def files(self) -> dict[str, Path]:
            return {}

        def read(self) -> Ingested:
            found, ledger = reader(tmp_path / "d").read(), Ledger()
            ledger.add("a", "", "subject", "used")
            return Ingested(found.schema, found.subjects, ledger)

    with pytest.raises(RuntimeError, match="written"):
        ingest(Forgetful(), str(tmp_path / "c"))
    assert not (tmp_path / "c").exists()
