"""Faults of cohorts and run folders: some here, a thousand and more in the record."""

import json
from functools import partial

import pytest

from benchmarks import damage, run_faults, store_faults
from framework.data.cohort.store import cohort
from framework.data.ingest.base import ingest
from framework.errors import UserError


def test_no_fault_of_a_cohort_gives_other_numbers(tmp_path):
    for case in store_faults.measure(tmp_path, 12).values():
        assert (case["silent"], case["traceback"]) == (0, 0), case["ill"]
        assert case["refused"] >= 7


def test_a_cohort_opened_without_its_digests_is_counted_as_silent(tmp_path, monkeypatch):
    """Chunks of tables that are gone, or hold other numbers with checksums that hold."""
    monkeypatch.setattr(cohort, "changed_tables", lambda opened: iter(()))
    source = store_faults.stamped_reader(tmp_path)
    ingest(source, str(tmp_path / "c"))

    def table(files, rng):
        return damage.any_file([file for file in files if "values" in file.parts and "c" in file.parts[-4:]], rng)

    use = partial(store_faults.read, source=source)
    found = damage.trials(tmp_path / "c", 12, use, tmp_path / "kept", table, store=True)
    assert found["silent"] > 3
    assert found["traceback"] == 0


def test_no_fault_of_encoders_or_checkpoints_is_used(tmp_path):
    for case in run_faults.measure(tmp_path, {"encoders": 15, "checkpoints": 30}).values():
        assert (case["silent"], case["traceback"]) == (0, 0), case["ill"]
        assert case["refused"] >= 7


@pytest.fixture
def whole(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "a.json").write_text('{"number": 1, "word": "abc"}')
    (tmp_path / "whole" / "b.json").write_text('{"number": 2, "word": "xyz"}')
    return tmp_path / "whole"


def test_outcomes_are_classified_and_a_stopped_benchmark_continues(whole, tmp_path):
    calls = []

    def use(place, name, number):
        calls.append(number)
        try:
            return "read", json.loads((place / "a.json").read_text())["number"]
        except (OSError, ValueError) as error:
            raise UserError("a.json is damaged") from error

    first = damage.trials(whole, 30, use, tmp_path / "kept")
    assert first["bits"] == 30
    assert min(first["refused"], first["harmless"], first["silent"]) > 0  # nothing checks the number
    assert sum(first[outcome] for outcome in damage.OUTCOMES) == 30
    before = len(calls)
    more = damage.trials(whole, 40, use, tmp_path / "kept")
    assert more["bits"] == 40
    assert set(calls[before:]) == set(range(30, 40))


def test_any_other_error_is_a_traceback(whole, tmp_path):
    def use(place, name, number):
        raise KeyError(name)

    assert damage.trials(whole, 5, use, tmp_path / "kept")["traceback"] == 5
