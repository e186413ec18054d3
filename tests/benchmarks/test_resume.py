"""A killed run ends bit-equal; one that resumes with another random key does not.

These tests train without the CNN of the benchmark.
"""

import random
import shutil

import numpy as np
import pytest

from benchmarks import resume
from benchmarks.resume import Run, differences

RECIPE = ("model=gru", *resume.TRAINING, "training.eval_every=4")
STEPS = 40


@pytest.fixture(autouse=True)
def small_programs_kept(monkeypatch):
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def test_a_killed_run_goes_on_and_one_that_forgets_its_key_is_found_out(tmp_path):
    resume.cohort(tmp_path / "cohort")
    killed, forgetful = (
        Run(tmp_path, name, STEPS, *more, *RECIPE) for name, more in (("killed", ()), ("forgetful", ("--forget",)))
    )
    death = killed.kill(random.Random(0), aimed=False, ahead=STEPS // 2)
    assert death.committed
    assert death.step - death.committed <= resume.EVERY
    shutil.copytree(killed.folder, forgetful.folder, dirs_exist_ok=True)
    whole = Run(tmp_path, "whole", STEPS, *RECIPE).end()
    assert differences(killed.end(), whole) == (0, True)
    assert killed.starts[-1] == death.committed
    assert not differences(forgetful.end(), whole)[1]


@pytest.mark.long
def test_the_benchmark_kills_at_random_and_inside_a_write(tmp_path):
    found = resume.measure(tmp_path, 2, 60, recipe=RECIPE)
    for case in ("random", "aimed"):
        outcome = found[case]
        assert outcome["kills"] == outcome["resumed"] == outcome["bit_equal"] == 1
        assert outcome["ulp"] == 0
        assert outcome["most_steps_lost"] <= resume.EVERY
    assert found["control"]["differs"]


def test_units_in_the_last_place_are_counted():
    one = np.array([1.0, -1.0, 0.0], np.float32)
    assert resume.ulps(one, one) == 0
    assert resume.ulps(one, np.nextafter(one, np.float32(9))) == 1
    assert resume.ulps(np.array([-0.0], np.float32), np.array([0.0], np.float32)) == 0
    least = np.nextafter(np.float32(0), np.float32(1))
    assert resume.ulps(np.array([-least]), np.array([least])) == 2
    assert resume.ulps(np.array([3]), np.array([5])) == 2
