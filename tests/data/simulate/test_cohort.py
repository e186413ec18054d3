import dataclasses

import numpy as np
import pytest

from framework.data.cohort.schema import validate
from framework.data.simulate.cohort import _amplitudes, atrophy, atrophy_schema
from framework.data.simulate.course import Parameters, draw_person, follow, streams
from framework.data.simulate.render import CHANNELS, _points, _warp, renderer
from framework.errors import UserError

P = Parameters()


@pytest.fixture(scope="module")
def three(anatomy):
    return list(atrophy(3, seed=7, anatomy=anatomy))


@pytest.fixture(scope="module")
def machine(anatomy):
    return renderer(anatomy, 32)


def test_prefix_and_determinism(three, anatomy):
    for again, first in zip(atrophy(2, seed=7, anatomy=anatomy, workers=1), three[:2], strict=True):
        assert again.missed == first.missed
        assert again.subject.static == first.subject.static
        for one, other in zip(again.subject.visits, first.subject.visits, strict=True):
            assert one.values == other.values
            assert one.scans.keys() == other.scans.keys()
            for name in one.scans:
                np.testing.assert_array_equal(one.scans[name].voxels, other.scans[name].voxels)


def test_subjects_fit_the_schema_and_survive_its_json(three):
    schema = atrophy_schema(32)
    assert type(schema).from_json(schema.to_json()) == schema
    for simulated in three:
        validate(simulated.subject, schema)
        for visit in simulated.subject.visits:
            for scan in visit.scans.values():
                assert scan.voxels.dtype == np.float32
                assert scan.voxels.min() == 0
                assert scan.voxels.max() > 0.3


def test_whatever_was_planned_is_there_or_accounted_for(three):
    for index, simulated in enumerate(three):
        rng = streams(7, index)[0]
        planned = follow(draw_person(rng, P), rng, P)
        lost = {(missed.visit, missed.what) for missed in simulated.missed}
        visits = {visit.id: visit for visit in simulated.subject.visits}
        assert {plan.id for plan in planned} == visits.keys() | {visit for visit, what in lost if what == "visit"}
        for visit in visits.values():
            for what in ("cognition", "ventricles", "cortex", "diagnosis"):
                assert (what in visit.values) != ((visit.id, what) in lost)
            for what in ("t1", "flair"):
                assert (what in visit.scans) != ((visit.id, what) in lost)
    assert any(simulated.missed for simulated in three)


def test_image_and_volume_agree_and_grow_with_the_stage(machine):
    person = dataclasses.replace(draw_person(streams(0, 1)[0], P), onset=5.0, rate=0.8, ventricles_ageing=0.0)
    times = np.array([0.0, 3.0, 5.0, 7.0, 10.0])
    head = machine.head(person.icv, np.random.default_rng(0), P)
    volumes, dark, cortex = [], [], []
    for time, amplitude in zip(times, _amplitudes(machine, head, person, times), strict=True):
        maps = machine.maps_of(head, amplitude, float(person.cortex_loss(time)))
        volumes.append(machine.millilitres(maps[..., CHANNELS.index("ventricles")]))
        cortex.append(machine.millilitres(maps[..., CHANNELS.index("cortex")]))
        # Fluid is the only thing of low intensity deep in the brain: the image alone must show the volume.
        deep = maps[10:22, 10:24, 13:21]
        dark.append(float((0.8 - deep[..., 0]).clip(0).sum()))
    np.testing.assert_allclose(volumes, np.exp(person.log_ventricles(times)), rtol=0.02)
    assert np.all(np.diff(volumes) > 0)
    assert np.all(np.diff(dark) > 0)
    assert np.all(np.diff(cortex) < 0)
    expected = P.template_cortex * person.icv / P.template_icv * np.exp(-person.cortex_loss(times))
    np.testing.assert_allclose(np.array(cortex) / expected, cortex[0] / expected[0], rtol=0.02)


def test_heads_have_their_size_and_do_not_fold(machine):
    for seed, icv in enumerate((1150.0, 1400.0, 1700.0)):
        head = machine.head(icv, np.random.default_rng(seed), P)
        assert head.icv == pytest.approx(icv, rel=0.08)
        points = np.asarray(_points(_warp(np.random.default_rng(seed), P), (icv / P.template_icv) ** (1 / 3), 32))
        centres = points[:, 13].reshape(32, 32, 32, 3) / machine.voxel
        jacobian = np.stack([np.stack(np.gradient(centres[..., c]), -1) for c in range(3)], -2)
        assert np.linalg.det(jacobian).min() > 0


def test_unknown_size_is_refused(anatomy):
    with pytest.raises(UserError, match="48 voxels"):
        renderer(anatomy, 48)
