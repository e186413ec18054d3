import jax
import pytest

from framework.train.cost import machine


@pytest.fixture
def counted(tmp_path, monkeypatch) -> list:
    measured: list[str] = []
    monkeypatch.setattr(machine, "CACHE", tmp_path / "machines")
    monkeypatch.setattr(machine, "_products", lambda kind: measured.append(kind) or 2e9)
    monkeypatch.setattr(machine, "_bandwidth", lambda: measured.append("memory") or 1e9)
    return measured


def test_rates_are_kept(counted):
    assert machine.known(["float32", "memory"]) == {}
    told = {"float32": 2e9, "memory": 1e9}
    assert machine.measured(["float32", "memory"]) == told
    assert machine.known(["float32", "memory"]) == told
    assert machine.known(["memory", "bfloat16"]) == {"memory": 1e9}
    assert machine.measured(["bfloat16"]) == {"bfloat16": 2e9}
    assert machine.known(["float32"]) == {"float32": 2e9}
    assert counted == ["float32", "memory", "bfloat16"]


def test_the_best_moment_counts(counted, monkeypatch):
    for rate, best in ((2e9, 2e9), (1e9, 2e9), (3e9, 3e9)):
        monkeypatch.setattr(machine, "_bandwidth", lambda rate=rate: rate)
        assert machine.measured(["memory"]) == machine.known(["memory"]) == {"memory": best}


def test_a_home_that_cannot_be_written_costs_nothing(counted, tmp_path):
    (tmp_path / "machines").write_text("in the way")
    assert machine.measured(["memory"]) == {"memory": 1e9}
    assert machine.known(["memory"]) == {}


def test_each_kind_of_machine_has_its_own(counted, monkeypatch):
    machine.measured(["memory"])
    monkeypatch.setattr(machine, "name", lambda: "another, 96 cores")
    assert machine.known(["memory"]) == {}


def test_measuring(monkeypatch):
    monkeypatch.setattr(machine, "LARGEST", 2**29)
    monkeypatch.setattr(machine, "_fastest", lambda call, calls: (jax.block_until_ready(call()), 1.0)[1])
    assert machine._products("float32") == 2 * 1024**3  # the first size that takes long enough
    assert machine._bandwidth() == 2 * 2**28


def test_measuring_where_memory_is_short(monkeypatch):
    monkeypatch.setattr(machine, "_room", lambda: 0)
    monkeypatch.setattr(machine, "_fastest", lambda call, calls: (jax.block_until_ready(call()), 1.0)[1])
    assert machine._products("float32") == 2 * 512**3
    assert machine._bandwidth() == 2 * 2**27


def test_peak_memory_covers_what_is_held():
    held = bytearray(64 << 20)
    held[:: 4 << 10] = b"x" * len(held[:: 4 << 10])
    assert machine.peak_memory() > len(held)
