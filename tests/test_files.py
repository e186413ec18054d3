"""Files written whole, and a folder that one process at a time works in."""

import subprocess
import sys

import pytest

from framework.errors import UserError
from framework.files import lock_folder, open_atomic, write_atomic


def test_it_is_refused_while_another_holds_it_and_free_once_that_one_is_killed(tmp_path):
    holds = f"from framework.files import lock_folder\nwith lock_folder(__import__('pathlib').Path({str(tmp_path)!r})):"
    command = [sys.executable, "-c", f"{holds}\n print('held', flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"another process is writing to {tmp_path}; wait"), lock_folder(tmp_path):
            pytest.fail("it was let in")
        other.kill()
    with lock_folder(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=r"cannot write to .*; choose another place with runs="),
        lock_folder(tmp_path / "file" / "in"),
    ):
        pytest.fail("there is no such place")


def test_an_error_inside_is_not_taken_for_another_process(tmp_path):
    with pytest.raises(BlockingIOError), lock_folder(tmp_path):
        raise BlockingIOError


def test_what_a_killed_writer_left_is_removed_when_the_file_is_written_again(tmp_path):
    file = tmp_path / "a[1].csv"
    writes = (
        f"from framework.files import open_atomic\nwith open_atomic(__import__('pathlib').Path({str(file)!r})) as new:"
    )
    command = [sys.executable, "-c", f"{writes}\n print('open', flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        write_atomic(file, "mine")
        assert len(list(tmp_path.iterdir())) == 2  # that of a living writer stays
        other.kill()
    write_atomic(file, "mine again")
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_text() == "mine again"


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "a.txt"
    write_atomic(file, "old")

    def fail() -> None:
        with open_atomic(file) as new:
            new.write("new")
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        fail()
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_text() == "old"


def test_writers_of_one_file_do_not_wait_for_each_other(tmp_path):
    file = tmp_path / "a.txt"
    with open_atomic(file) as outer:
        write_atomic(file, "inner")
        outer.write("outer")
    assert file.read_text() == "outer"
    assert list(tmp_path.iterdir()) == [file]
