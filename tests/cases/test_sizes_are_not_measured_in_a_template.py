"""A sform to a template (code 4) may be an affine with scaling: 460 mL were measured for 268.

github.com/nipreps/fmriprep/issues/745, github.com/nipreps/fmriprep/issues/955
"""

import numpy as np
import pytest

from framework.errors import UserError
from tests.scans import AFFINE, made, millilitres, save

TO_TEMPLATE = AFFINE * np.array([1.25, 1.2, 1.15, 1])


@pytest.mark.parametrize("code", [3, 4, 5])
def test_the_scanners_qform_measures(tmp_path, code, capsys):
    save(tmp_path / "v.nii", sform=(TO_TEMPLATE, code))
    cohort, entries = made(tmp_path, ["v.nii"])
    assert millilitres(cohort) == pytest.approx(268, rel=0.1)
    assert entries == []
    assert capsys.readouterr().err == ""
    whole, _ = made(tmp_path, ["v.nii"], scans={"orientation": "sform"})
    assert millilitres(whole) == pytest.approx(268 * 1.25 * 1.2 * 1.15, rel=0.1)


def test_without_a_qform_the_sizes_stated_decide(tmp_path, capsys):
    save(tmp_path / "v.nii", sform=(TO_TEMPLATE, 4), qform=(None, 0), pixdim=[1, 4, 4, 4, 1, 1, 1, 1])
    with pytest.raises(UserError, match=r"its sform says voxels of 5 x 4.8 x 4.6, its pixdim 4 x 4 x 4"):
        made(tmp_path, ["v.nii"])


@pytest.mark.parametrize("forms", [{"qform": (None, 0)}, {"qform": (AFFINE, 4)}])
def test_a_volume_on_a_template_is_named(tmp_path, capsys, forms):
    save(tmp_path / "v.nii", sform=(AFFINE, 4), **forms)
    save(tmp_path / "w.nii", sform=(AFFINE, 4), **forms)
    _, entries = made(tmp_path, ["v.nii", "w.nii"])
    assert [(entry.visit, entry.status) for entry in entries] == [("1", "used"), ("2", "used")]
    assert "leads to a template (code 4)" in entries[0].reason
    said = capsys.readouterr().err
    assert said.startswith("warning: subject 'a', visit '1', T1w: its sform leads to a template (code 4)")
    assert "(1 more scans of T1w: see the ledger)" in said
    assert said.count("\n") == 1
    made(tmp_path, ["v.nii"], scans={"orientation": "sform"})
    assert capsys.readouterr().err == ""
