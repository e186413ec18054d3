"""What a stopped study kept of a forecaster comes back as it was, or the user is told which file to delete."""

import json
import shutil

import numpy as np
import pytest

from framework.errors import UserError
from framework.runs import model_results

KEPT = model_results.ModelResults({"score": np.arange(12.0).reshape(1, 2, 2, 3)}, {"cost": None, "notes": ["one"]})


@pytest.fixture
def file(tmp_path):
    KEPT.save(tmp_path / "gru.npz")
    return tmp_path / "gru.npz"


def test_it_comes_back(file):
    found = model_results.ModelResults.load(file)
    assert found is not None
    assert found.metadata == KEPT.metadata
    np.testing.assert_array_equal(found.forecasts["score"], KEPT.forecasts["score"])
    assert model_results.ModelResults.load(file.with_name("slope.npz")) is None


def refused(file) -> None:
    with pytest.raises(UserError, match=r"cannot be read .*delete it, and give the same command again"):
        model_results.ModelResults.load(file)


def test_that_of_another_forecaster_is_refused(file):
    shutil.copy(file, file.with_name("slope.npz"))
    refused(file.with_name("slope.npz"))


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
def test_damage_is_one_line(file, at):
    held = file.read_bytes()
    file.write_bytes(held[: int(at * len(held))])
    refused(file)


@pytest.mark.parametrize("what", ["numbers", "metadata"])
def test_what_was_put_in_is_refused(file, what):
    """An archive whose own checksums hold."""
    with np.load(file) as held:
        kept = dict(held)
    if what == "numbers":
        kept["forecast score"] = kept["forecast score"] + 1
    else:
        digest, header = json.loads(str(kept["header"]))
        kept["header"] = np.array(json.dumps([digest, header.replace("one", "two")]))
    np.savez(file, **kept)
    refused(file)
