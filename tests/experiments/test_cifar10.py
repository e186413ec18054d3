"""`experiment=cifar10` on files of the official format, made here: its figure on the real ones is not measured."""

import json

import pytest

from tests.data.ingest.test_cifar10 import TEST, write_files
from tests.experiments.conftest import call, runs_of

pytestmark = pytest.mark.long

IMAGES = 40


def command(folder, *more):
    return call(
        "forecast",
        "+experiment=cifar10",
        f"data.path={folder}/files",
        f"data.images={IMAGES}",
        f"data.store={folder}/store",
        f"runs={folder}/runs",
        "training.steps=40",
        "training.eval_every=20",
        "model.encoder.channels=[8,8,8]",
        *more,
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cifar10")
    write_files(folder / "files", IMAGES)
    return folder, command(folder)


def test_from_the_files_to_test_accuracy_far_above_chance(told):
    folder, said = told
    assert said.code == 0, said.err
    board = json.loads((runs_of(folder, "forecast")[0] / "leaderboard.json").read_text())
    rows = [row for row in board["rows"] if row["metric"] == "accuracy"]
    by_model = {row["model"]: row["value"] for row in rows}
    assert by_model["classic_gru"] > 0.5
    assert by_model["last_visit"] < 0.3


def test_the_test_batch_alone_is_tested(told):
    manifest = json.loads((runs_of(told[0], "forecast")[0] / "manifest.json").read_text())
    assert manifest["test_subjects"] == IMAGES


def test_a_truncated_file_is_one_line(tmp_path):
    write_files(tmp_path / "files", IMAGES)
    file = tmp_path / "files" / TEST
    file.write_bytes(file.read_bytes()[:-1])
    said = command(tmp_path)
    assert said.code == 1
    assert "download it again" in said.err[-1]
    assert not (tmp_path / "store").exists()
