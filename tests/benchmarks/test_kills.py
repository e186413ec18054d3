"""Commands that are killed lose nothing: a few kills here, fifty of each in the record."""

import json
import time

import pytest

from benchmarks import kills, measure
from framework.data.cohort.store.atomic import discard
from framework.data.ingest import base


@pytest.mark.parametrize("name", ["ingest", "overwrite", "append"])
def test_a_cohort_survives_kills(tmp_path, name):
    found = kills.measure(name, tmp_path, 3)
    assert (found["kills"], found["sound"], found["equal"], found["ill"]) == (3, 3, 3, [])


def test_a_cohort_that_is_removed_before_its_successor_is_there_counts_as_lost(tmp_path, monkeypatch):
    honest = base.replace_whole

    def careless(place: str) -> None:
        if (tmp_path / "overwrite" / "here" / "c").exists():  # else it is being prepared
            discard(place)
            time.sleep(3)
        honest(place)

    monkeypatch.setattr(base, "replace_whole", careless)
    monkeypatch.setattr(base, "exists", lambda store: (tmp_path / store / "manifest.json").exists())
    monkeypatch.setattr(kills, "exists", lambda store: (tmp_path / store / "manifest.json").exists())
    found = kills.measure("overwrite", tmp_path, 2)
    assert found["sound"] < found["kills"]


def test_a_child_that_fails_raises_its_error(tmp_path):
    assert kills.run_in_child(lambda: [1]) == (False, [1])
    assert kills.run_in_child(lambda: time.sleep(60), 0.01) == (True, None)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        kills.run_in_child(lambda: 1 / 0)


def test_the_record_holds_all_commands():
    record = json.loads((measure.RESULTS / "kills.json").read_text())
    assert set(record["cases"]) == set(kills.COMMANDS)
    for name, case in record["cases"].items():
        assert case["kills"] == case["sound"] == case["equal"] > 0, name
