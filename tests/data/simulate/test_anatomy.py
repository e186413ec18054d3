import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from framework.data.simulate import template
from framework.data.simulate.anatomy import SPACING, carry
from framework.data.simulate.course import Parameters
from framework.data.simulate.interpolate import trilinear
from framework.errors import UserError

pytestmark = pytest.mark.long


def test_trilinear_is_scipys_and_clamps_outside():
    rng = np.random.default_rng(0)
    maps = rng.random((5, 6, 7, 2)).astype(np.float32)
    points = rng.uniform(-2, 8, (40, 3)).astype(np.float32)
    ours = trilinear(jnp.asarray(maps), jnp.asarray(points * 2 + 1), 1.0, 2.0)
    theirs = [ndimage.map_coordinates(maps[..., c], points.T, order=1, mode="nearest") for c in range(2)]
    np.testing.assert_allclose(ours, np.stack(theirs, -1), atol=1e-5)


def test_template_has_both_lateral_ventricles(anatomy):
    coarse = anatomy.coarse
    volume = coarse.millilitres(coarse.ventricles)
    assert 16 < volume < 19
    x = coarse.axes()[0]
    left, right = (coarse.millilitres(coarse.ventricles * side) for side in (x < 0, x > 0))
    assert left == pytest.approx(right, rel=0.02)
    assert coarse.millilitres(coarse.brain) == pytest.approx(anatomy.fine.millilitres(anatomy.fine.brain), rel=1e-3)
    assert coarse.millilitres(coarse.brain) == pytest.approx(Parameters().template_icv, rel=1e-3)
    assert coarse.millilitres(coarse.cortex) == pytest.approx(Parameters().template_cortex, rel=1e-3)
    middle = [float((coarse.ventricles * axis).sum() / coarse.ventricles.sum()) for axis in coarse.axes()]
    np.testing.assert_allclose(middle, [0, -14.7, 14.5], atol=1.5)


def test_missing_template_says_what_to_install(monkeypatch):
    monkeypatch.setattr(template, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'prognax\[demo\]'"):
        template.read()


@pytest.mark.parametrize(("flow", "tissue"), [("ventricles", "ventricles"), ("cortex", "cortex")])
def test_amplitude_is_the_logarithm_of_the_volume(anatomy, flow, tissue):
    flow, tissue = getattr(anatomy, flow), jnp.asarray(getattr(anatomy.coarse, tissue))[..., None]
    assert np.all(np.diff(flow.amplitude) > 0)
    assert 0.0 in flow.amplitude
    for knot in (0, -1):
        volume = np.asarray(carry(tissue, flow.displacement[knot] / SPACING)).sum(dtype=np.float64)
        assert np.log(volume / np.asarray(tissue).sum(dtype=np.float64)) == pytest.approx(
            flow.amplitude[knot], abs=1e-4
        )


@pytest.mark.parametrize("name", ["ventricles", "cortex"])
def test_flow_never_folds(anatomy, name):
    flow = getattr(anatomy, name)
    for knot in (0, -1):
        voxels = np.asarray(flow.displacement[knot]) / SPACING
        jacobian = np.eye(3) + np.stack([np.stack(np.gradient(voxels[..., c]), -1) for c in range(3)], -2)
        assert np.linalg.det(jacobian).min() > 0


def test_thinning_leaves_the_ventricles_their_volume(anatomy):
    ventricles = jnp.asarray(anatomy.coarse.ventricles)[..., None]
    low, _ = anatomy.cortex.at(-0.25)
    moved = carry(ventricles, anatomy.cortex.displacement[low] / SPACING)
    assert float(moved.sum()) == pytest.approx(float(ventricles.sum()), rel=0.02)
