"""A file whose sform and qform contradict each other was read by the sform: a brain a ninth of its size, or mirrored.

github.com/Deep-MI/FastSurfer/issues/36, github.com/NIFTI-Imaging/nifti_clib/issues/127,
github.com/nipreps/fmriprep/issues/2281, github.com/MRtrix3/mrtrix3/issues/94
"""

import numpy as np
import pytest

from framework.errors import UserError
from tests.scans import AFFINE, ball, made, middle, millilitres, save

HALF = np.diag([2.0, 2.0, 2.0, 1.0])
MIRRORED = np.diag([-4.0, 4.0, 4.0, 1.0])
SHEARED = AFFINE @ np.array([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
QUARTER = AFFINE @ np.array([[0, -1.0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def turned(degrees: float) -> np.ndarray:
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[cos, -sin, 0, 0], [sin, cos, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ AFFINE


@pytest.mark.parametrize(
    ("forms", "complaint"),
    [
        ({"sform": (HALF, 1)}, r"sform \(code 1\) and its qform \(code 1\) say voxels of 2 x 2 x 2 and 4 x 4 x 4"),
        ({"sform": (HALF, 2)}, r"sform \(code 2\) and its qform \(code 1\) say voxels of 2 x 2 x 2"),
        ({"sform": (MIRRORED, 1)}, "opposite handedness"),
        ({"sform": (QUARTER, 2)}, "point 90 degrees apart"),
        ({"sform": (turned(5), 1)}, "point 5 degrees apart"),
        ({"sform": (HALF, 1), "qform": (None, 0), "pixdim": [1, 4, 4, 4, 1, 1, 1, 1]}, "its pixdim 4 x 4 x 4"),
        ({"sform": (SHEARED, 1), "qform": (None, 0), "pixdim": [1, 4, 20**0.5, 4, 1, 1, 1, 1]}, "sheared by 27"),
    ],
)
def test_a_contradiction_is_refused_or_excluded(tmp_path, forms, complaint):
    save(tmp_path / "good.nii")
    save(tmp_path / "bad.nii", **forms)
    with pytest.raises(UserError, match=complaint) as caught:
        made(tmp_path, ["good.nii", "bad.nii"])
    assert "data.reader.scans.orientation=" in str(caught.value)
    assert "\n" not in str(caught.value)
    cohort, entries = made(tmp_path, ["good.nii", "bad.nii"], on_error="exclude")
    assert cohort.present["T1w"].tolist() == [[True]]
    assert [entry.status for entry in entries] == ["excluded"]


def test_the_user_says_which_is_right(tmp_path):
    save(tmp_path / "v.nii", ball((20, 0, 0)), sform=(MIRRORED, 1))
    for orientation, right in (("qform", 20.0), ("sform", -20.0)):
        cohort, _ = made(tmp_path, ["v.nii"], scans={"orientation": orientation})
        np.testing.assert_allclose(middle(cohort), [right, 0, 0], atol=0.5)
    save(tmp_path / "w.nii", sform=(HALF, 1))
    cohort, _ = made(tmp_path, ["w.nii"], scans={"orientation": "qform"})
    assert millilitres(cohort) == pytest.approx(268, rel=0.1)
    save(tmp_path / "x.nii", qform=(None, 0))
    with pytest.raises(UserError, match="it has no qform"):
        made(tmp_path, ["x.nii"], scans={"orientation": "qform"})
    with pytest.raises(UserError, match="orientation 'left' is unknown"):
        made(tmp_path, ["x.nii"], scans={"orientation": "left"}, on_error="exclude")


@pytest.mark.parametrize(
    "forms",
    [
        {},
        {"qform": (None, 0)},
        {"sform": (None, 0)},
        {"sform": (turned(10), 2)},  # moved by a rigid registration
        {"sform": (turned(5), 1), "qform": (turned(5.2), 1)},  # rounding
        {"pixdim": [1, 3.99, 4.01, 4, 1, 1, 1, 1]},  # pixdim rounded by a converter
        {"pixdim": [0, 4, 4, 4, 1, 1, 1, 1]},  # a handedness of 0 stands for 1
    ],
)
def test_forms_that_agree_raise_nothing(tmp_path, forms, capsys):
    save(tmp_path / "v.nii", ball((20, 0, 0)), **forms)
    cohort, entries = made(tmp_path, ["v.nii"])
    assert millilitres(cohort) == pytest.approx(268, rel=0.1)
    assert entries == []
    assert capsys.readouterr().err == ""
