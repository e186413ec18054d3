"""Scans that do not go with each other: scaled otherwise, so that their values begin elsewhere."""

import numpy as np
import pytest

from tests.scans import ball, made, save

CT = np.where(ball(radius=60) > 0, 40, -1000).astype(np.int16)


@pytest.mark.parametrize(("slope", "inter", "subject"), [(1.5, 0, "a"), (0.9, 0, "a"), (1, 64, "a"), (2, 0, None)])
def test_a_computed_tomogram_scaled_otherwise_is_named(tmp_path, capsys, slope, inter, subject):
    files = ["a.nii", "b.nii", "c.nii"]
    for name in files[:2]:
        save(tmp_path / name, CT)
    save(tmp_path / "c.nii", CT, scl_slope=slope, scl_inter=inter)
    _, entries = made(tmp_path, files, subject=subject, grid={"units": "HU"})
    assert [(entry.subject, entry.visit, entry.status) for entry in entries] == [(subject or "c", "3", "used")]
    assert f"its header scales by {slope} and adds {inter}" in entries[0].reason
    assert "check scl_slope and scl_inter" in capsys.readouterr().err


def test_an_intercept_in_arbitrary_units_is_named(tmp_path, capsys):
    save(tmp_path / "a.nii")
    save(tmp_path / "b.nii", scl_slope=1, scl_inter=128)
    _, entries = made(tmp_path, ["a.nii", "b.nii"])
    assert {entry.visit for entry in entries} == {"1", "2"}  # of two, either may be wrong
    assert "they go from 128 to 1128: check scl_slope" in capsys.readouterr().err
    save(tmp_path / "b.nii", scl_slope=8, scl_inter=0)  # a gain is no matter
    assert made(tmp_path, ["a.nii", "b.nii"])[1] == []
