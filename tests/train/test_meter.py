import time
from dataclasses import asdict

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from framework.data.batch import Batch, Loader
from framework.train import machine, meter
from framework.train.meter import Meter

RATES = {"float32": 1e9, "memory": 1e8}


@pytest.fixture
def batch(trend) -> Batch:
    loader = Loader(trend)
    one = loader.batch([0, 1, 2], loader.size(4, [0, 1, 2, 3]), trend.taught)
    return jax.tree.map(lambda x: np.stack([x, x])[:, None], one)  # two steps, one member


@pytest.fixture
def known(monkeypatch) -> list:
    """The machine's rates; what of them was measured anew."""
    asked: list[str] = []
    monkeypatch.setattr(machine, "known", lambda kinds: {kind: RATES[kind] for kind in kinds})
    monkeypatch.setattr(machine, "measured", lambda kinds: asked.extend(kinds) or {kind: 1e9 for kind in kinds})
    return asked


step = jax.jit(lambda w, batch: jax.lax.scan(lambda w, _: (jnp.tanh(w @ w), None), w, batch.weight)[0])


def run(batch: Batch, calls: int) -> Meter:
    metered, w = Meter(), jnp.eye(32)
    for _ in range(calls):
        with metered.waiting():
            time.sleep(0.01)
        w = metered.time(step, w, batch)
    return metered


def test_work_and_rates(batch, known):
    cost = run(batch, 4).cost(steps=8, members=1)
    assert cost.step_flops == 2 * 32**3
    steady = 3 * 2 * cost.step_flops / cost.flops_per_second
    assert cost.peak_share == pytest.approx(cost.flops_per_second / RATES["float32"])
    whole = steady / (1 - cost.waiting)
    assert cost.subjects_per_second == pytest.approx(3 * 2 * 3 / whole)
    assert cost.visits_per_second == pytest.approx(3 * 2 * 3 * 4 / whole)
    assert cost.scans_per_second is None
    assert whole - steady >= 3 * 0.01  # and not the wait before the first step
    assert (cost.uncounted, known) == ((), [])
    assert cost.peak_memory > 0


def test_what_binds_a_step(batch, known, monkeypatch):
    cost = run(batch, 2).cost(4, 1)
    assert cost.intensity == cost.step_flops / cost.step_bytes
    assert (cost.ridge, cost.bound) == (pytest.approx(10), "memory")
    monkeypatch.setitem(RATES, "memory", 1e9)
    assert run(batch, 2).cost(4, 1).bound == "compute"


def test_only_a_long_run_measures_its_machine(batch, known, monkeypatch):
    monkeypatch.setattr(machine, "known", lambda kinds: {"float32": 1e9})
    cost = run(batch, 2).cost(4, 1)
    assert (cost.peak_share, cost.ridge, cost.bound, known) == (None, None, None, [])
    assert cost.flops_per_second > 0
    monkeypatch.setattr(meter, "WORTH_MEASURING", 0)
    assert run(batch, 2).cost(4, 1).ridge == pytest.approx(1)
    assert known == ["memory"]


def test_a_run_that_made_no_step(known):
    cost = asdict(Meter().cost(0, 1))
    assert cost["flops_per_second"] is cost["step_flops"] is cost["waiting"] is None


def test_products_of_other_types_are_held_against_float32(known):
    done = meter.Work({"int32": 10**9, "float32": 10**9}, 8)
    assert meter._limits(done, False)[0] == 2
