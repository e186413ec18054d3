"""A store is never taken for the cohort of other files, or of other settings, than it was made from."""

import os
from pathlib import Path

import numpy as np
import pytest

from framework.data.cohort.store import exclusive, open_cohort, verify
from framework.data.ingest import base
from framework.data.ingest.base import ingest
from framework.data.ingest.identity import require_same
from framework.data.ingest.table import Table
from framework.errors import UserError
from tests.experiments.conftest import call


def write(path: Path, prefix: str, offset: int) -> Path:
    rows = [f"{prefix}{i},{t},{offset + i + t}" for i in range(9) for t in range(3)]
    path.write_text("\n".join(["subject,time,score", *rows]) + "\n")
    return path


@pytest.fixture
def forecast(tmp_path):
    write(tmp_path / "a.csv", "A", 25)
    write(tmp_path / "b.csv", "B", 500)

    def command(file: str, *more: str):
        return call(
            "forecast",
            "data=table",
            f"data.path={file}",
            f"data.store={tmp_path}/store",
            "+data.reader.variables.score={roles: [input, target]}",
            "data.targets=[score]",
            "model=last_visit",
            "split.folds=3",
            "report=false",
            "resamples=100",
            f"runs={tmp_path}/runs",
            *more,
        )

    return command


def refused(told, *words: str) -> None:
    assert told.code == 1
    assert told.out == ""
    (line,) = [line for line in told.err if line.startswith("error: ")]
    for word in (*words, "data.store=", "if_exists=overwrite"):
        assert word in line


def test_another_file_or_other_settings_are_refused_and_the_same_content_is_not(forecast, tmp_path):
    assert forecast(f"{tmp_path}/a.csv").code == 0
    refused(forecast(f"{tmp_path}/b.csv"), "a.csv (SHA-256 ", "where data.path has b.csv (SHA-256 ")
    refused(forecast(f"{tmp_path}/a.csv", "data.reader.missing=['25']"), 'data.reader.missing was unset and is ["25"]')
    told = forecast(f"{tmp_path}/nowhere.csv")
    assert (told.code, told.out) == (1, "")
    assert "nothing at" in told.err[-1]
    (tmp_path / "a.csv").rename(tmp_path / "moved.csv")  # where it lies is no part of what it is
    assert forecast(f"{tmp_path}/moved.csv").code == 0
    assert forecast("null").code == 0  # whatever it was made from
    with (tmp_path / "moved.csv").open("a") as file:
        file.write("A9,0,3\n")
    refused(forecast(f"{tmp_path}/moved.csv"), "moved.csv")


def test_no_path_and_no_cohort_is_one_line(forecast):
    assert "data.path is null" in forecast("null").err[-1]


def reader(file: Path, **changed) -> Table:
    return Table(str(file), "subject", {"column": "time"}, variables={"score": {}}, **changed)


def same(reader: Table, store: Path, alone: bool = False) -> None:
    require_same(open_cohort(str(store)), reader.settings, reader.files(), alone)


def test_a_grown_cohort_is_that_of_each_of_its_files_but_of_none_alone(tmp_path):
    first, second = reader(write(tmp_path / "a.csv", "A", 1)), reader(write(tmp_path / "b.csv", "B", 1))
    ingest(first, str(tmp_path / "c"))
    same(first, tmp_path / "c", alone=True)
    ingest(second, str(tmp_path / "c"), "append")
    same(first, tmp_path / "c")
    same(second, tmp_path / "c")
    with pytest.raises(UserError, match="holds other files too"):
        same(first, tmp_path / "c", alone=True)
    with pytest.raises(UserError, match=r"where data.path has c.csv"):
        same(reader(write(tmp_path / "c.csv", "C", 1)), tmp_path / "c")


def test_what_is_set_to_its_default_is_not_set(tmp_path):
    file = write(tmp_path / "a.csv", "A", 1)
    ingest(reader(file), str(tmp_path / "c"))
    same(reader(file, static={} or None, visit=None, missing=("NA", "N/A", "n/a", "NaN", "nan")), tmp_path / "c")


def test_a_cohort_that_does_not_say_what_it_was_made_from_is_refused(tmp_path):
    from framework.data.cohort.store.files import read_manifest, write_manifest

    first = reader(write(tmp_path / "a.csv", "A", 1))
    ingest(first, str(tmp_path / "c"))
    manifest = read_manifest(str(tmp_path / "c"))
    del manifest["provenance"]["settings"]
    write_manifest(str(tmp_path / "c"), manifest)
    with pytest.raises(UserError, match="does not say which files"):
        same(first, tmp_path / "c")


def test_large_files_are_read_again_only_when_they_were_touched(tmp_path, monkeypatch):
    from framework.data.ingest import identity

    monkeypatch.setattr(identity, "SMALL", 1)
    file, store = write(tmp_path / "a.csv", "A", 1), tmp_path / "c"
    ingest(reader(file), str(store))
    read = []
    monkeypatch.setattr(identity, "sha256_file", lambda path: read.append(path) or "0" * 64)
    same(reader(file), store)
    assert read == []
    content, status = file.read_bytes(), file.stat()
    file.write_bytes(content.replace(b"A0", b"Z0"))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))  # of the same length and date
    with pytest.raises(UserError, match=r"where data.path has a.csv"):
        same(reader(file), store)
    assert len(read) == 1


@pytest.mark.parametrize("step", ["rename", "complete"])
@pytest.mark.parametrize("where", ["folder", "memory"])
def test_a_replacement_that_is_killed_leaves_the_old_cohort_or_the_new(tmp_path, monkeypatch, step, where):
    from framework.data.cohort.store import atomic

    store = f"memory://{tmp_path}/c" if where == "memory" else str(tmp_path / "c")
    ingest(reader(write(tmp_path / "a.csv", "A", 1)), store)
    second = reader(write(tmp_path / "b.csv", "B", 1))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if step == "rename":  # before anything of the old was touched
            patch.setattr(base, "replace_whole", killed)
        else:  # the old has gone, the new is not there yet
            patch.setattr(atomic, "complete", killed)
        with pytest.raises(KeyboardInterrupt):
            ingest(second, store, "overwrite")
    assert open_cohort(store).subjects[0] == {"rename": "A0", "complete": "B0"}[step]
    assert list(verify(store)) == []
    assert ingest(second, store, "overwrite").subjects[0] == "B0"
    if where == "folder":
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.csv", "c"]


def test_a_second_writer_is_refused_in_one_line_and_writes_nothing(tmp_path):
    first, second = reader(write(tmp_path / "a.csv", "A", 1)), reader(write(tmp_path / "b.csv", "B", 500))
    store = str(tmp_path / "c")
    with exclusive(store):
        for if_exists in ("refuse", "append", "overwrite"):
            with pytest.raises(UserError, match="another process is writing to"):
                ingest(second, store, if_exists)
    assert not (tmp_path / "c").exists()
    made = ingest(first, store)
    with exclusive(store):
        with pytest.raises(UserError, match="another process is writing"):
            ingest(second, store, "overwrite")
    assert open_cohort(store).fingerprint == made.fingerprint
    np.testing.assert_array_equal(open_cohort(store).values, made.values)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.csv", "c"]


def test_another_folder_of_the_user_is_never_removed(tmp_path):
    first = reader(write(tmp_path / "a.csv", "A", 1))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "thesis.doc").touch()
    for if_exists in ("refuse", "append", "overwrite"):
        with pytest.raises(UserError, match="other files"):
            ingest(first, str(tmp_path / "c"), if_exists)
    assert (tmp_path / "c" / "thesis.doc").exists()
