"""A follow-up whose field of view takes in the neck moved the brain by 63 mm on the grid.

github.com/rordenlab/dcm2niix/issues/21, github.com/nipreps/petprep/issues/208,
github.com/Project-MONAI/MONAI/issues/3167
"""

import numpy as np
import pytest

from tests.scans import ball, made, save

HEAD = ball(radius=60)
NECK = np.zeros((48, 48, 80), np.int16)  # 128 mm more below
NECK[:, :, 32:] = HEAD
NECK[18:30, 18:30, :40] = 900


def test_it_is_said_and_in_the_ledger(tmp_path, capsys):
    save(tmp_path / "a.nii", HEAD)
    save(tmp_path / "b.nii", NECK)
    cohort, entries = made(tmp_path, ["a.nii", "b.nii"])
    assert np.argwhere(cohort.voxels("T1w", 0, 1)[..., 0] > 500)[:, 2].max() >= 15  # of 16
    assert [(entry.visit, entry.status) for entry in entries] == [("2", "used")] * len(entries)
    said = capsys.readouterr().err
    assert "subject 'a', visit '2', T1w: what is bright lies 6" in said
    assert "from where it lay at visit '1'" in said
    assert "data.grid.centre=foreground" in said


def test_centred_on_the_foreground_the_head_stays(tmp_path, capsys):
    save(tmp_path / "a.nii", HEAD)
    save(tmp_path / "b.nii", NECK)
    cohort, entries = made(tmp_path, ["a.nii", "b.nii"], grid={"centre": "foreground"})
    for visit in (0, 1):
        upper = np.argwhere(cohort.voxels("T1w", 0, visit)[..., 0] > 500).max(0)
        np.testing.assert_allclose(upper, [12, 12, 12], atol=1)
    assert entries == []
    assert capsys.readouterr().err == ""


def test_a_head_cut_off_by_the_grid_is_named(tmp_path, capsys):
    high = np.zeros((48, 48, 80), np.int16)
    high[:, :, 40:] = ball()[:, :, :40]
    save(tmp_path / "a.nii", high)
    _, entries = made(tmp_path, ["a.nii"])
    assert "of what is bright lie above the grid and are cut off" in entries[0].reason
    assert "cut off" in capsys.readouterr().err


@pytest.mark.parametrize("shift", [(12, 0, 0), (0, -15, 5)])
def test_a_head_placed_otherwise_is_no_fault(tmp_path, shift, capsys):
    save(tmp_path / "a.nii")
    save(tmp_path / "b.nii", ball(shift))
    _, entries = made(tmp_path, ["a.nii", "b.nii"])
    assert entries == []
    assert capsys.readouterr().err == ""
