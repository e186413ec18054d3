"""A folder that one process at a time works in."""

import subprocess
import sys

import pytest

from framework.errors import UserError
from framework.files import lock_folder


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
