"""Two kills of the benchmark's own: a killed run ends bit-equal, one that forgets its random key does not.

Without the CNN, which the benchmark's hundred kills have.
"""

import numpy as np

from benchmarks import resume


def test_killed_runs_go_on_and_one_that_forgets_its_key_is_found_out(tmp_path):
    found = resume.measure(tmp_path, 2, 60, recipe=("model=gru", *resume.TRAINING, "optimizer.round=4"))
    for case in ("random", "aimed"):
        told = found[case]
        assert told["kills"] == told["resumed"] == told["bit_equal"] == 1
        assert told["ulp"] == 0
        assert told["most_steps_lost"] <= resume.EVERY
    assert found["control"]["differs"]


def test_units_in_the_last_place_are_counted():
    one = np.array([1.0, -1.0, 0.0], np.float32)
    assert resume.ulps(one, one) == 0
    assert resume.ulps(one, np.nextafter(one, np.float32(9))) == 1
    assert resume.ulps(np.array([-0.0], np.float32), np.array([0.0], np.float32)) == 0
    least = np.nextafter(np.float32(0), np.float32(1))
    assert resume.ulps(np.array([-least]), np.array([least])) == 2
    assert resume.ulps(np.array([3]), np.array([5])) == 2
