from dataclasses import asdict, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from framework.data.batches.batch import Drawn, Loader, Placed, Tables
from framework.train.cost import machine, throughput
from framework.train.cost.throughput import Meter
from framework.types import Scans

RATES = {"float32": 1e9, "memory": 1e8}


@pytest.fixture
def tables(trend) -> Tables:
    return Loader(trend).tables({}, Loader(trend).size(4, [0, 1, 2, 3], packed=True))


@pytest.fixture
def one(trend) -> Drawn:
    loader = Loader(trend)
    return loader.drawn([0, 1, 2], loader.size(4, [0, 1, 2, 3]))


@pytest.fixture
def batch(one) -> Drawn:
    return two_steps(one)


def two_steps(one: Drawn) -> Drawn:
    """Of one member."""
    return jax.tree.map(lambda x: np.stack([x, x])[:, None], one)


@pytest.fixture
def known(monkeypatch) -> list:
    """The machine's rates; what of them was measured anew."""
    asked: list[str] = []
    monkeypatch.setattr(machine, "known", lambda kinds: {kind: RATES[kind] for kind in kinds})
    monkeypatch.setattr(machine, "measured", lambda kinds: asked.extend(kinds) or {kind: 1e9 for kind in kinds})
    return asked


step = jax.jit(lambda w, tables, batch: jax.lax.scan(lambda w, _: (jnp.tanh(w @ w), None), w, batch.weight)[0])


class Clock:
    """One second more at each look."""

    now = 0.0

    def perf_counter(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(throughput, "time", made)
    return made


def run(tables: Tables, batch: Drawn, calls: int) -> Meter:
    metered, w = Meter(), jnp.eye(32)
    for _ in range(calls):
        with metered.waiting():
            throughput.time.now += 10
        w = metered.time(step, w, tables, batch)
    return metered


def test_work_and_rates(batch, tables, known):
    cost = run(tables, batch, 4).cost(steps=8, members=1)
    assert cost.step_flops == 2 * 32**3
    assert cost.flops_per_second == 2 * cost.step_flops  # two steps a call, one second each
    assert cost.peak_share == pytest.approx(cost.flops_per_second / RATES["float32"])
    whole = 3 + 3 * 11  # without the first call, and the wait before it
    assert cost.waiting == 33 / whole
    assert cost.subjects_per_second == 3 * 2 * 3 / whole
    assert cost.visits_per_second == 3 * 2 * 3 * 4 / whole
    assert cost.scans_per_second is None
    assert cost.compile_seconds == 1
    assert (cost.uncounted, known) == ((), [])
    assert cost.peak_memory > 0


def test_scans_are_counted_wherever_they_lie(one, tables, known):
    place, valid = np.zeros(3, int), np.array([True, True, False])
    scans = {"T1w": Scans(np.zeros((3, 2, 2, 2, 1), np.float32), place, place, valid)}
    one = replace(one, scans=scans, placed={"FLAIR": Placed(place, place, place, valid)})
    cost = run(tables, two_steps(one), 2).cost(4, 1)
    assert cost.scans_per_second / cost.subjects_per_second == pytest.approx(4 / 3)


def test_what_binds_a_step(batch, tables, known, monkeypatch):
    cost = run(tables, batch, 2).cost(4, 1)
    assert cost.intensity == cost.step_flops / cost.step_bytes
    assert (cost.ridge, cost.bound) == (pytest.approx(10), "memory")
    monkeypatch.setitem(RATES, "memory", 1e9)
    assert run(tables, batch, 2).cost(4, 1).bound == "compute"


def test_only_a_long_run_measures_its_machine(batch, tables, known, monkeypatch):
    monkeypatch.setattr(machine, "known", lambda kinds: {"float32": 1e9})
    cost = run(tables, batch, 2).cost(4, 1)
    assert (cost.peak_share, cost.ridge, cost.bound, known) == (None, None, None, [])
    assert cost.flops_per_second > 0
    monkeypatch.setattr(throughput, "WORTH_MEASURING", 0)
    assert run(tables, batch, 2).cost(4, 1).ridge == pytest.approx(1)
    assert known == ["memory"]


def test_a_run_that_made_no_step(known):
    cost = asdict(Meter().cost(0, 1))
    assert cost["flops_per_second"] is cost["step_flops"] is cost["waiting"] is None


def test_products_of_other_types_are_held_against_float32(known):
    done = throughput.Work({"int32": 10**9, "float32": 10**9}, 8)
    assert throughput._limits(done, False)[0] == 2
