"""A sweep with failing jobs and killed processes; `tests/sweeps/test_pool.py` has smaller cases."""

import pytest

from benchmarks import sweep_fault_injection


@pytest.mark.long
def test_jobs_fail_processes_die_and_the_launcher_with_them(tmp_path):
    found = sweep_fault_injection.measure(tmp_path, 14)
    assert found["planted"] == {"crash": 2, "diverge": 1, "kill": 1}
    assert found["done"] == 11
    assert all(found["holds"].values()), found["holds"]
