"""Voxels in metres or microns, empty volumes and localizers were all "used".

github.com/nipreps/fmriprep/issues/786, github.com/MagneticResonanceImaging/MRIReco.jl/issues/126,
github.com/ANTsX/ANTs/issues/1114, github.com/neurolabusc/Bru2Nii/issues/4
"""

import numpy as np
import pytest

from framework.errors import UserError
from tests.scans import AFFINE, ball, made, millilitres, save

SMALL = np.diag([0.004, 0.004, 0.004, 1])
SLAB = np.zeros((48, 48, 3), np.int16)
SLAB[10:35, 10:35] = 1000
FAULTS = {
    "metres": ({"units": "meter"}, r"field of view is 1.92e\+05 .* larger than 600 mm.*scans.spatial_units=mm"),
    "microns": ({"units": "micron"}, r"field of view is 0.192 .* 0.001 of the grid's 192"),
    "empty": ({"voxels": np.zeros((48, 48, 48), np.int16)}, "all of its voxels are 0: it is empty"),
    "constant": ({"voxels": np.full((48, 48, 48), 7, np.int16)}, "all of its voxels are 7: it is empty"),
    "localizer": ({"voxels": SLAB}, r"field of view is 192 x 192 x 12 mm, 0.06 of the grid's .*data.grid.cover"),
    "unknown unit": ({"xyzt_units": 6}, "unit of length has the code 6"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_it_is_refused_or_excluded(tmp_path, name):
    fault, complaint = FAULTS[name]
    save(tmp_path / "good.nii")
    save(tmp_path / "bad.nii", **fault)
    with pytest.raises(UserError, match=complaint):
        made(tmp_path, ["good.nii", "bad.nii"])
    cohort, entries = made(tmp_path, ["good.nii", "bad.nii"], on_error="exclude")
    assert cohort.present["T1w"].sum() == 1
    assert [(entry.visit, entry.status) for entry in entries] == [("2", "excluded")]


def test_settings_resolve_it(tmp_path, capsys):
    save(tmp_path / "meter.nii", units="meter")
    save(tmp_path / "slab.nii", SLAB)
    cohort, _ = made(tmp_path, ["meter.nii"], scans={"spatial_units": "mm"})
    assert millilitres(cohort) == pytest.approx(268, rel=0.1)
    made(tmp_path, ["slab.nii"], grid={"cover": 0.05})
    made(tmp_path, ["meter.nii"], grid={"extent": 2e5})
    save(tmp_path / "metres.nii", sform=(SMALL, 1), qform=(SMALL, 1), units="meter")  # and rightly so
    whole, entries = made(tmp_path, ["metres.nii"])
    assert millilitres(whole) == pytest.approx(268, rel=0.1)
    assert entries == []


def test_a_thick_slab_is_named(tmp_path, capsys):
    slab = np.zeros((48, 48, 18), np.int16)  # 72 mm
    slab[10:35, 10:35] = 1000
    save(tmp_path / "v.nii", slab)
    _, entries = made(tmp_path, ["v.nii"])
    assert [entry.status for entry in entries] == ["used"]
    assert "72 mm, 0.4 of the grid's 192 x 192 x 192 mm along one axis" in capsys.readouterr().err
    made(tmp_path, ["v.nii"], grid={"cover": 0.3})
    assert capsys.readouterr().err == ""


def test_a_tilted_slab_covers_as_little_as_an_upright_one(tmp_path):
    cos, sin = np.cos(0.5), np.sin(0.5)
    tilted = np.array([[1, 0, 0, 0], [0, cos, -sin, 0], [0, sin, cos, 0], [0, 0, 0, 1]]) @ AFFINE
    save(tmp_path / "v.nii", SLAB, sform=(tilted, 1), qform=(tilted, 1))
    with pytest.raises(UserError, match="of the grid's 192 x 192 x 192 mm"):
        made(tmp_path, ["v.nii"])


def test_voxels_that_are_no_number_are_outside_where_the_user_says_so(tmp_path):
    """Maps of SPM and CAT12 are NaN outside the brain."""
    map_ = np.where(ball() > 0, 1000.0, np.nan).astype(np.float32)
    save(tmp_path / "v.nii", map_)
    with pytest.raises(UserError, match=r"of its voxels are NaN or infinite.*data.reader.scans.nan=0"):
        made(tmp_path, ["v.nii"])
    cohort, _ = made(tmp_path, ["v.nii"], scans={"nan": 0})
    assert millilitres(cohort) == pytest.approx(268, rel=0.1)
    map_[0, 0, 0] = np.inf
    save(tmp_path / "v.nii", map_)
    with pytest.raises(UserError, match="1 of its voxels are NaN or infinite"):
        made(tmp_path, ["v.nii"], scans={"nan": 0})
