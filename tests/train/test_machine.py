import jax
import pytest

from framework.train import machine


@pytest.fixture
def counted(tmp_path, monkeypatch) -> list:
    measured = []
    monkeypatch.setattr(machine, "CACHE", tmp_path / "machines")
    monkeypatch.setattr(machine, "_products", lambda kind: measured.append(kind) or 2e9)
    monkeypatch.setattr(machine, "_bandwidth", lambda: measured.append("memory") or 1e9)
    return measured


def test_rates_are_measured_once_and_kept(counted):
    assert machine.rates(["float32", "memory"], measure=False) == {}
    told = {"float32": 2e9, "memory": 1e9}
    assert machine.rates(["float32", "memory"], measure=True) == told
    assert machine.rates(["float32", "memory"], measure=True) == told
    assert machine.rates(["memory", "bfloat16"], measure=False) == {"memory": 1e9}
    assert counted == ["float32", "memory"]
    assert machine.rates(["bfloat16"], measure=True) == {"bfloat16": 2e9}
    assert machine.rates(["float32"], measure=False) == {"float32": 2e9}


def test_each_kind_of_machine_has_its_own(counted, monkeypatch):
    machine.rates(["memory"], measure=True)
    monkeypatch.setattr(machine, "name", lambda: "another, 96 cores")
    assert machine.rates(["memory"], measure=False) == {}


def test_measuring(monkeypatch):
    monkeypatch.setattr(machine, "LARGEST", 2**29)
    monkeypatch.setattr(machine, "_fastest", lambda call, calls: (jax.block_until_ready(call()), 1.0)[1])
    assert machine._products("float32") == 2 * 1024**3  # the first size that takes long enough
    assert machine._bandwidth() == 2 * 2**28


def test_peak_memory_covers_what_is_held():
    held = bytearray(64 << 20)
    held[:: 4 << 10] = b"x" * len(held[:: 4 << 10])
    assert machine.peak_memory() > len(held)
