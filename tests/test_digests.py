"""What a run wrote is what is read of it, or it is refused in one line."""

import json
import os

import pytest

from framework.digests import FORMAT, check, seal, unseal
from framework.errors import UserError

COMMAND = "python -m experiments.forecast model=gru"


@pytest.fixture
def run(tmp_path):
    (tmp_path / "models" / "gru").mkdir(parents=True)
    (tmp_path / "models" / "gru" / "arrays.npz").write_bytes(bytes(range(100)))
    (tmp_path / "cost.json").write_text('{"gru": 1}')
    (tmp_path / "manifest.json").write_text(json.dumps({"command": COMMAND, "targets": ["score"]}))
    (tmp_path / "status.json").write_text("{}")
    seal(tmp_path, ["status.json"])
    return tmp_path


def refused(run, *names: str) -> str:
    with pytest.raises(UserError) as told:
        check(run, *names)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_what_was_written_passes_with_what_changes_later(run):
    told = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(told | {"finished": "now"}, indent=1))
    (run / "status.json").write_text('{"state": "finished"}')
    (run / "report.html").write_text("drawn afterwards")
    check(run)
    check(run, "manifest.json", "models", "history.csv")  # the last was never written


def test_a_changed_file_is_named_with_the_command_that_makes_it_again(run):
    (run / "cost.json").write_text('{"gru": 2}')
    assert refused(run) == refused(run, "cost.json")
    assert refused(run).endswith(
        f"cost.json is not what the run wrote; restore it, or delete the folder and give its command again: {COMMAND}"
    )
    check(run, "models")  # which are whole


def test_a_manifest_that_says_something_else_is_refused(run):
    (run / "manifest.json").write_text(json.dumps({"command": COMMAND, "targets": ["stage"]}))
    assert "manifest.json is not what the run wrote" in refused(run)
    (run / "manifest.json").write_text("{")
    assert "manifest.json is not what the run wrote" in refused(run)


def test_a_file_that_is_gone_or_was_added_is_refused(run):
    (run / "models" / "gru" / "arrays.npz").rename(run / "models" / "gru" / "other.npz")
    assert "arrays.npz is missing" in refused(run, "models")
    (run / "models" / "gru" / "arrays.npz").write_bytes(bytes(range(100)))
    assert "other.npz was not written by the run; remove it" in refused(run, "models")


@pytest.mark.parametrize("format", [None, 1, FORMAT + 1])
def test_a_run_of_another_format_is_refused_with_the_version_that_wrote_it(run, format):
    content = json.loads((run / "digests.json").read_text())
    content |= {"version": "0.0.9", "format": format}
    if format is None:
        del content["format"], content["version"]
    (run / "digests.json").write_text(json.dumps(content))
    line = refused(run)
    assert f"was written by prognax {'0.1.0' if format is None else '0.0.9'} in format {format or 1}; expected" in line
    assert COMMAND in line


@pytest.mark.parametrize("name", ["manifest.json", "digests.json", "cost.json"])
def test_a_pipe_in_the_place_of_a_file_is_refused_unopened(run, name):
    (run / name).unlink()
    os.mkfifo(run / name)
    assert refused(run)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"digest": "0", "files": 3}'])
def test_damaged_digests_are_refused(run, text):
    (run / "digests.json").write_text(text)
    assert "digests.json is " in refused(run)


def test_digests_are_of_themselves_too(run):
    told = json.loads((run / "digests.json").read_text())
    del told["files"]["cost.json"]
    (run / "digests.json").write_text(json.dumps(told))
    assert "digests.json is not what the run wrote" in refused(run)


def test_without_digests_a_run_is_not_read(run):
    unseal(run)
    unseal(run)
    assert "has no digests of its files: it has not finished, lost them, or an earlier version wrote it" in refused(run)
