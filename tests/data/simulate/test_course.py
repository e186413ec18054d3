import dataclasses

import numpy as np
import pytest

from framework.data.simulate import calibrate
from framework.data.simulate.course import Parameters, draw_person, follow, streams

P = Parameters()


def subject(index: int, seed: int = 3, p: Parameters = P):
    rng = streams(seed, index)[0]
    person = draw_person(rng, p)
    return person, follow(person, rng, p)


def test_subject_hangs_on_seed_and_index_alone():
    assert subject(5) == subject(5)
    assert subject(5) != subject(6)
    assert subject(5) != subject(5, seed=4)


def test_two_to_eight_visits_from_time_zero_in_order():
    attended = [[v for v in subject(i)[1] if "visit" not in v.missing] for i in range(300)]
    assert {len(visits) for visits in attended} == set(range(2, 9))
    for visits in attended:
        times = [visit.time for visit in visits]
        assert times[0] == 0
        assert np.all(np.diff(times) > 0)
        assert "diagnosis" not in visits[0].missing


def test_gone_is_gone_and_every_loss_has_its_reason():
    plans = [subject(i)[1] for i in range(300)]
    for plan in plans:
        left = [visit.missing.get("visit") == "left the study" for visit in plan]
        assert left == sorted(left)
        assert all(reason for visit in plan for reason in visit.missing.values())
        assert all({"ventricles", "cortex"} <= visit.missing.keys() for visit in plan if "t1" in visit.missing)
    shares = {
        name: np.mean([name in v.missing for plan in plans for v in plan]) for name in ("t1", "flair", "cognition")
    }
    assert shares["t1"] == pytest.approx(P.no_t1, abs=0.02)
    assert shares["flair"] == pytest.approx(P.no_flair, abs=0.03)
    assert shares["cognition"] == pytest.approx(P.no_cognition, abs=0.02)


def test_stage_and_volumes_run_one_way():
    time = np.linspace(0, 10, 50)
    for i in range(50):
        person = dataclasses.replace(subject(i)[0], ventricles_ageing=0.0, cortex_ageing=0.0)
        assert np.all(np.diff(person.stage(time)) > 0)
        assert np.all(np.diff(person.log_ventricles(time)) > 0)
        assert np.all(np.diff(person.cortex_loss(time)) > 0)
        assert person.stage(person.onset) == pytest.approx(0.5)


@pytest.fixture(scope="module")
def rates():
    return calibrate.table(subjects=2000, seed=1)


@pytest.mark.parametrize("name", calibrate.PUBLISHED)
def test_rates_are_those_published(rates, name):
    low, high, _ = calibrate.PUBLISHED[name]
    assert low <= rates[name] <= high
