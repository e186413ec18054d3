"""Around a CT lay 0 HU, water, and normalisation divided by the mean of what is bright in it: air at -26.

github.com/icometrix/dicom2nifti/issues/90, github.com/TorchIO-project/torchio/issues/344,
github.com/BrainLesion/preprocessing/issues/153
"""

import numpy as np
import pytest

from framework.data.batches.normalise import scaled
from framework.data.cohort.schema_alignment import align
from framework.errors import UserError
from tests.scans import ball, made, save

CT = np.where(ball(shape=(32, 32, 32)) > 0, 40, -1000).astype(np.int16)  # 128 mm, within the grid of 192


def test_a_ct_in_hounsfield_units(tmp_path, capsys):
    padded = CT.copy()
    padded[:3] = -3024  # beyond a scanner's field of view
    save(tmp_path / "ct.nii", padded)
    cohort, entries = made(tmp_path, ["ct.nii"], grid={"units": "HU"})
    voxels = cohort.voxels("T1w", 0, 0)[..., 0]
    assert voxels[0, 0, 0] == -1000
    np.testing.assert_allclose(voxels[[4, 3], 4, 4], -1000, atol=1e-2)
    assert voxels[8, 8, 8] == pytest.approx(40, abs=1)
    shown = scaled(cohort, "T1w", 0, 0)[..., 0]  # what networks see, and augmentation pads with 0
    assert shown[0, 0, 0] == 0
    assert shown[8, 8, 8] == pytest.approx(1040, abs=1)
    assert entries == []
    assert capsys.readouterr().err == ""


def test_a_background_of_ones_own(tmp_path):
    save(tmp_path / "v.nii", ball() + np.int16(300))
    cohort, _ = made(tmp_path, ["v.nii"], grid={"background": 300})
    shown = scaled(cohort, "T1w", 0, 0)[..., 0]
    assert shown[0, 0, 0] == pytest.approx(0, abs=1e-5)
    assert shown.max() == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize(
    ("voxels", "complaint"),
    [
        (CT, "from -1000 to 40 .* below the background of 0 arbitrary: .*data.grid.units=HU"),
        (-ball(), "below the background of 0 arbitrary"),
        (ball() + np.int16(2000), "none of them near the background of 0 arbitrary: .*data.grid.background=<number>"),
    ],
)
def test_arbitrary_units_mean_a_background_of_0(tmp_path, voxels, complaint):
    save(tmp_path / "v.nii", voxels)
    with pytest.raises(UserError, match=complaint):
        made(tmp_path, ["v.nii"])


def test_values_in_hounsfield_units_hold_air(tmp_path):
    save(tmp_path / "v.nii", CT + np.int16(1024))  # an intercept that a converter forgot
    with pytest.raises(UserError, match="none of them near the background of -1000 HU"):
        made(tmp_path, ["v.nii"], grid={"units": "HU"})
    made(tmp_path, ["v.nii"], grid={"units": "density", "background": 24})


def test_two_cohorts_of_other_backgrounds_are_not_one(tmp_path):
    save(tmp_path / "v.nii", CT)
    one, _ = made(tmp_path, ["v.nii"], grid={"units": "HU"})
    other, _ = made(tmp_path, ["v.nii"], grid={"units": "HU", "background": -1024})
    with pytest.raises(UserError, match="ingest it on that grid"):
        align(one, other.schema)


def test_a_cohort_written_before_backgrounds_were_kept_has_0():
    from framework.data.cohort.schema import Schema

    tree = {"name": "t1", "shape": [2, 2, 2], "spacing": [1.0, 1.0, 1.0], "channels": 1, "units": "arbitrary"}
    assert Schema.from_json({"variables": [], "static": [], "modalities": [tree]}).modalities[0].background == 0
