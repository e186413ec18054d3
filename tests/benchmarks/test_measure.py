"""Timing in turns: order of contenders, discarded calls, ratios, and records."""

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import bootstrap, measure
from benchmarks.cases import CASES
from benchmarks.paired_timing import others_share, time_case
from benchmarks.worker import Worker, WorkerError, clock

ROOT = str(Path(__file__).parents[2])


def test_contenders_take_turns_and_first_calls_are_dropped():
    seen = []

    def turn(name):
        def calls(count):
            seen.append((name, count))
            return [99.0, *[float(len(seen))] * (count - 1)]

        return calls

    taken = measure.interleave({"a": turn("a"), "b": turn("b")}, rounds=3, calls=2, rest=0)
    assert [name for name, _ in seen] == ["a", "b", "b", "a", "a", "b"]
    assert {count for _, count in seen} == {3}
    np.testing.assert_array_equal(taken["a"], [[1, 1], [4, 4], [5, 5]])
    np.testing.assert_array_equal(taken["b"], [[2, 2], [3, 3], [6, 6]])


def test_a_ratio_above_one_is_ahead_of_the_peer():
    ours, peer = np.full((4, 2), 0.5), np.full((4, 2), 1.0)
    assert measure.against(ours, peer) == {"ratio": 2.0, "ratio_spread": [2.0, 2.0]}
    assert measure.summary(ours) == {"median_ms": 500.0, "spread_ms": [500.0, 500.0], "fastest_ms": 500.0}


def test_noise_that_meets_both_cancels_round_by_round():
    noise = np.array([[1.0], [9.0], [1.0], [9.0], [4.0]])
    assert measure.against(noise, 1.5 * noise)["ratio_spread"] == [1.5, 1.5]


def test_the_record_takes_the_worst_case_that_has_a_peer(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    cases = {"x": {"ratio": 1.4, "peer": "p"}, "y": {"ratio": 1.2, "peer": "p"}, "vmap": {"ratio": 0.5}, "z": {}}
    environment = {"device": "NVIDIA H200 (SXM)", "versions": {"jax": "0"}}
    result = measure.record("step", environment, cases, warmup=1, repeats=2)
    assert result["ratio"] == 1.2
    assert {"benchmark", "device", "ratio", "cases", "versions", "commit", "warmup", "repeats"} <= set(result)
    path = measure.write(result, "-plain")
    assert path.name == "step-nvidia-h200-sxm-plain.json"
    assert json.loads(path.read_text()) == json.loads(capsys.readouterr().out.splitlines()[-1]) == result
    assert measure.record("step", environment, {"z": {}})["ratio"] is None


def test_inputs_are_never_zero():
    assert all(np.all(case.voxels()[:1] != 0) for case in CASES.values())


def test_a_call_is_timed_each_time():
    counted = []
    assert len(clock(lambda: counted.append(1), 3)) == len(counted) == 3


def test_a_worker_answers_and_says_how_it_ended():
    with Worker("tests.benchmarks.still", {"GREETING": "hello"}) as worker:
        assert worker.environment == {"greeting": "hello"}
        assert worker.prepare("step", "x", compiled=False) == (["x"], {"task": "step", "compiled": False})
        assert len(worker.turn("x", 4)) == 4
        worker.turn("x", 1)
        assert worker.idle < 0.2
        with pytest.raises(WorkerError, match="KeyError: 'unknown'"):
            worker.turn("unknown", 1)
        worker.turn("x", 1)


def test_a_peer_that_fails_is_recorded_and_the_others_count(capfd, monkeypatch, tmp_path):
    args = Namespace(eager=False, warmup=1, rounds=2, calls=1)
    with (
        Worker("tests.benchmarks.still", {"GREETING": "", "PYTHONPATH": ROOT}) as ours,
        Worker("tests.benchmarks.failing", {"PYTHONPATH": ROOT}) as peer,
    ):
        cases = {name: time_case(ours, peer, "step", name, args) for name in ("usual", "impossible", "deadly", "after")}
    for name in ("usual", "after"):
        assert cases[name]["failed"] == {"compiled": "ValueError: Invalid ranges [0:-1]"}
        assert set(cases[name]["times"]) == {name, "eager"}
        assert cases[name]["peer"] == "eager"
    for name, reason in (("impossible", "ValueError: Invalid ranges [0:-1]"), ("deadly", "ended with code -9")):
        assert reason in cases[name]["failed"]["tests.benchmarks.failing"]
        assert "peer" not in cases[name]
        assert list(cases[name]["times"]) == [name]
    assert "compiled failed: ValueError: Invalid ranges [0:-1]" in capfd.readouterr().err
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    measure.write(measure.record("step", {"device": "cpu", "versions": {}}, cases))
    assert json.loads(capfd.readouterr().out)["cases"]["usual"]["failed"]


def test_a_failure_of_ours_ends_the_benchmark():
    args = Namespace(eager=False, warmup=1, rounds=2, calls=1)
    with (
        Worker("tests.benchmarks.failing", {"PYTHONPATH": ROOT}) as ours,
        pytest.raises(WorkerError, match="Invalid ranges"),
    ):
        ours.prepare("step", "impossible", compiled=False)
    with (
        Worker("tests.benchmarks.failing", {"PYTHONPATH": ROOT}) as ours,
        pytest.raises(WorkerError, match="Invalid ranges"),
    ):
        time_case(ours, None, "step", "impossible", args)


def test_a_loop_of_a_peers_that_fails_is_recorded():
    def fails():
        raise ValueError("no")

    found = bootstrap._time_peer(fails, Namespace(loops=1, resamples=10), 1.0)
    assert found == {"failed": {"scikit-learn": "ValueError: no"}}


def test_what_others_use_is_what_the_workers_do_not(monkeypatch):
    alien = 0.0
    with Worker("tests.benchmarks.still", {"GREETING": ""}) as worker:
        monkeypatch.setattr(measure, "busy", lambda: worker.used + alien)
        worker.prepare("step", "x", compiled=False)
        assert worker.used > 0.2
        share = others_share([worker])
        worker.turn("x", 1)
        worker.prepare("step", "y", compiled=False)
        assert share() == 0
        alien = 0.1
        assert (share() or 0) > 0
