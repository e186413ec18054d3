"""Two processes that bring in a cohort at one URL: the second one is refused or waits, and is told of whom."""

import threading
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractFileSystem

from framework.data.cohort.store import exclusive, lock_object, open_cohort
from framework.data.cohort.store.lock_object import creates_in_one_step
from framework.data.ingest.base import Reader, ingest, ingested
from framework.data.ingest.table import Table
from framework.errors import UserError


@pytest.fixture
def store(tmp_path) -> str:
    return f"memory://{tmp_path}/c"


@pytest.fixture
def reader(tmp_path) -> Reader:
    return table(tmp_path / "a.csv", "A")


def table(path: Path, prefix: str) -> Reader:
    path.write_text("\n".join(["subject,time,score", *(f"{prefix}{i},{t},{i + t}" for i in range(3) for t in (0, 1))]))
    when = {"column": "time", "units": "years", "format": ""}
    return Table(str(path), "subject", when, variables={"score": {"roles": ["input", "target"]}})


def there(store: str) -> bool:
    files, root = fsspec.url_to_fs(store)
    return files.exists(f"{root}.lock")


def test_a_second_writer_is_refused_in_one_line_and_writes_nothing(store, reader):
    with exclusive(store):
        for if_exists in ("refuse", "append", "overwrite"):
            with pytest.raises(
                UserError, match=rf"another process \(\d+ on .*\) is writing .* remove {store}\.lock if"
            ):
                ingest(reader, store, if_exists)
    assert not there(store)
    assert ingest(reader, store).subjects == ("A0", "A1", "A2")
    assert not there(store)


def test_one_who_waits_comes_after_the_writer_and_takes_its_cohort(store, reader, tmp_path, monkeypatch, capsys):
    begun, other = threading.Event(), table(tmp_path / "b.csv", "B")
    monkeypatch.setattr(lock_object, "PAUSE", 0.01)
    found = []
    second = threading.Thread(target=lambda: found.append(ingested(other, store)))

    def slow(number: int) -> None:
        if number == 1:
            monkeypatch.setattr(lock_object.time, "sleep", lambda _: begun.set())
            second.start()
            assert begun.wait(30)  # the second has met the lock

    ingest(reader, store, progress=slow)
    second.join(30)
    assert found[0].subjects == ("A0", "A1", "A2")
    assert capsys.readouterr().err.count("waiting for another process (") == 1


def test_a_writer_that_fails_leaves_no_lock(store, reader):
    def stop(number: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(reader, store, progress=stop)
    assert not there(store)


def test_the_lock_of_somebody_else_is_not_removed(store):
    files, root = fsspec.url_to_fs(store)
    with exclusive(store):
        files.pipe_file(f"{root}.lock", b"somebody else's")
    assert there(store)
    with pytest.raises(UserError, match=r"another process .which did not say who it is. is writing"):
        with exclusive(store):
            pytest.fail("two at once")
    files.rm_file(f"{root}.lock")


class LooksFirst(MemoryFileSystem):
    """A file system that has no exclusive creation of its own."""

    protocol = "looksfirst"
    pipe_file = AbstractFileSystem.pipe_file


def test_a_file_system_without_exclusive_creation_is_warned_of(tmp_path, reader, capsys):
    assert creates_in_one_step(MemoryFileSystem())
    assert not creates_in_one_step(LooksFirst())
    fsspec.register_implementation("looksfirst", LooksFirst, clobber=True)
    with exclusive(f"looksfirst://{tmp_path}/d"):
        pass
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: looksfirst:// cannot create")


def test_a_folder_by_its_path_and_by_its_url_are_one_store(tmp_path, reader):
    with exclusive(f"{tmp_path}/c"):
        with pytest.raises(UserError, match="another process is writing to"):
            ingest(reader, f"file://{tmp_path}/c")
    assert ingest(reader, f"file://{tmp_path}/c").subjects == open_cohort(f"{tmp_path}/c").subjects
