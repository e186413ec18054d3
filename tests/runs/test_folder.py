"""A run's folder is found again by what the run is made of, and by nothing else."""

import errno
import json
import os

import pytest
import yaml

import framework.runs.folder as folders
from framework.config.error_lines import explain
from framework.errors import UserError
from framework.files import write_atomic
from framework.runs.folder import RunFolder, digest_sources

CONFIG = {
    "experiment": "forecast",
    "runs": "runs",
    "trust": [],
    "seed": 0,
    "data": {"targets": ["a", "b"]},
    "rate": 0.1,
}


def name(fingerprint: str = "f", **changes) -> str:
    return RunFolder.of({**CONFIG, **changes}, fingerprint).path.name


def test_the_same_command_finds_the_same_folder():
    assert name() == name()
    assert RunFolder.of(CONFIG, "f").path.parts[:2] == ("runs", "forecast")
    assert RunFolder.of(dict(reversed(CONFIG.items())), "f") == RunFolder.of(CONFIG, "f"), "order is no setting"


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"rate": 0.2},
        {"data": {"targets": ["b", "a"]}},
        {"data": {"targets": ["a"]}},
        {"fingerprint": "g"},
        {"new": None},
    ],
    ids=str,
)
def test_another_seed_setting_or_cohort_is_another_run(changes):
    assert name(**changes) != name()


@pytest.mark.parametrize("changes", [{"runs": "elsewhere"}, {"trust": ["mine"]}, {"hydra": {"verbose": True}}], ids=str)
def test_where_things_lie_is_no_part_of_the_run(changes):
    assert name(**changes) == name()


def test_other_code_is_another_run(monkeypatch):
    before = name()
    monkeypatch.setattr(folders, "sources_digest", lambda: "other")
    assert name() != before


def test_the_digest_sees_every_module(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "inner" / "a.py").write_text("x = 1\n")
    seen = [digest_sources(tmp_path)]
    (tmp_path / "inner" / "a.py").write_text("x = 2\n")
    seen.append(digest_sources(tmp_path))
    (tmp_path / "inner" / "a.py").rename(tmp_path / "inner" / "b.py")
    seen.append(digest_sources(tmp_path))
    assert len(set(seen)) == 3


def started(tmp_path) -> RunFolder:
    folder = RunFolder.of({**CONFIG, "runs": str(tmp_path)}, "f")
    folder.start(CONFIG, {"data": {"subjects": 3}})
    return folder


def test_a_folder_tells_what_made_it(tmp_path):
    folder = started(tmp_path)
    assert yaml.safe_load((folder.path / "config.yaml").read_text()) == CONFIG
    manifest = folder.manifest()
    assert manifest["data"] == {"subjects": 3}
    assert manifest["device"]["platform"] == "cpu"
    assert {"jax", "numpy", "prognax"} <= set(manifest["versions"])
    assert not folder.finished
    folder.update_manifest(models=["gru"])
    assert not folder.finished
    folder.finish()
    assert folder.finished
    assert folder.manifest() == manifest | {"models": ["gru"], "finished": folder.manifest()["finished"]}


def test_starting_again_keeps_what_is_there(tmp_path):
    folder = started(tmp_path)
    (folder.path / "checkpoints").mkdir()
    folder.start(CONFIG, {})
    assert (folder.path / "checkpoints").is_dir()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to .*; choose another place with runs=") as told:
        RunFolder.of({**CONFIG, "runs": str(tmp_path / "file")}, "f").start(CONFIG, {})
    assert "\n" not in str(told.value)


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    folders._commit.cache_clear()
    assert started(tmp_path).manifest()["commit"] is None
    folders._commit.cache_clear()


@pytest.fixture
def full(monkeypatch):
    """A disk on which nothing new can be written, while files that are there may be written over."""

    def fails(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)


def test_a_run_that_meets_a_full_disk_says_so_in_its_status_and_leaves_nothing_beside(tmp_path, request):
    folder = started(tmp_path)

    def ends() -> None:
        request.getfixturevalue("full")
        write_atomic(folder.path / "cost.json", "{}")

    with pytest.raises(OSError, match="No space left"), folder.track_status():
        ends()
    assert folder.status()["state"] == "failed"
    assert "No space left on device" in folder.status()["reason"]
    assert "cost.json" in folder.status()["reason"]
    assert not [file.name for file in folder.path.iterdir() if "new" in file.name]


@pytest.mark.usefixtures("full")
def test_a_full_disk_is_named_with_the_file_that_met_it(tmp_path):
    with pytest.raises(OSError, match="No space left") as met:
        write_atomic(tmp_path / "report.html", "page")
    line = explain(met.value, "forecast")
    assert (
        line == f"No space left on device: {tmp_path}/report.html; check the path, its permissions and the space left"
    )
    assert list(tmp_path.iterdir()) == []


def test_where_the_system_names_no_file_none_is_named():
    line = explain(OSError(errno.ENOSPC, "No space left on device"), "forecast")
    assert line == "No space left on device; check the path, its permissions and the space left"


def test_a_status_is_corrected_where_a_run_was_killed_between_its_last_two_words(tmp_path):
    folder = started(tmp_path)
    folder.set_status("running")
    folder.finish()
    folder.run_once(CONFIG, {}, lambda: pytest.fail("made again"))
    assert folder.status()["state"] == "finished"


def test_a_file_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    write_atomic(file, json.dumps([1]))
    monkeypatch.setattr(os, "replace", lambda *_: pytest.fail("killed here", pytrace=False))
    with pytest.raises(pytest.fail.Exception):
        write_atomic(file, json.dumps([2]))
    assert file.read_text() == "[1]"
