"""Scans with slightly wrong names were "no file", though the file lay there.

github.com/nipy/heudiconv/issues/289, github.com/aramis-lab/clinica/pull/695
"""

import pytest

from framework.data.cohort.ledger import Ledger
from framework.data.ingest.base import LEDGER, ingest
from framework.data.ingest.bids import Bids

GRID = {"shape": [6, 6, 6], "spacing": [10, 10, 10]}


def read(root, tmp_path):
    time = {"column": "days_since_first", "units": "days"}
    made = ingest(Bids(str(root), {"T1w": GRID, "FLAIR": GRID}, time), str(tmp_path / "c"))
    left = [e for e in Ledger.read(f"{made.path}/{LEDGER}").entries if e.status == "excluded"]
    return made, [(e.subject, e.visit, e.item, e.reason) for e in left]


@pytest.mark.parametrize(
    "name",
    [
        "sub-1_ses-2_T1w1.nii.gz",
        "sub-1_ses-2_T1w_Eq_1.nii.gz",
        "sub-1_ses-2_T1w.NII.GZ",
        "sub-1_ses-2_t1w.nii.gz",
        "sub-1_ses-2_T1.nii.gz",
        "T1w.nii.gz",
        "sub-1_ses-2_acq_T1w.nii.gz",
    ],
)
def test_it_is_in_the_ledger_and_said(bids_folder, tmp_path, capsys, name):
    anat = bids_folder / "sub-1/ses-2/anat"
    (anat / "sub-1_ses-2_T1w.nii.gz").rename(anat / name)
    made, left = read(bids_folder, tmp_path)
    assert not made.present["T1w"][0, 1]
    assert left == [("sub-1", "ses-2", name, "name not understood")]
    assert f"warning: {name} of sub-1, ses-2, is not read: a scan of T1w ends in _T1w.nii.gz" in capsys.readouterr().err


def test_other_names_are_no_near_misses(bids_folder, tmp_path, capsys):
    anat = bids_folder / "sub-1/ses-2/anat"
    whole = (anat / "sub-1_ses-2_T1w.nii.gz").read_bytes()
    for name in ("sub-1_ses-2_T2w.nii.gz", "sub-1_ses-2_T1map.nii.gz", "._sub-1_ses-2_T1w.nii.gz", "notes.nii.txt"):
        (anat / name).write_bytes(whole)
    made, left = read(bids_folder, tmp_path)
    assert made.present["T1w"].all()
    assert left == [("sub-1", "ses-2", "notes.nii.txt", "name not understood")]
    assert capsys.readouterr().err == ""


def test_labels_hold_plus_signs(bids_folder, tmp_path, capsys):
    anat = bids_folder / "sub-1/ses-2/anat"
    (anat / "sub-1_ses-2_T1w.nii.gz").rename(anat / "sub-1_ses-2_rec-a+b_T1w.nii.gz")
    made, left = read(bids_folder, tmp_path)
    assert made.present["T1w"].all()
    assert left == []


def test_a_scan_beside_its_folder_and_folders_of_other_names(bids_folder, tmp_path, capsys):
    session = bids_folder / "sub-1/ses-2"
    (session / "anat/sub-1_ses-2_T1w.nii.gz").rename(session / "sub-1_ses-2_T1w.nii.gz")
    (bids_folder / "sub-2/ses-2").rename(bids_folder / "sub-2/Ses-02")
    (bids_folder / "Sub_03").mkdir()
    (bids_folder / "sourcedata").mkdir()
    _, left = read(bids_folder, tmp_path)
    assert ("sub-1", "ses-2", "sub-1_ses-2_T1w.nii.gz", "it lies in ses-2, not in its folder anat") in left
    assert ("sub-2", "Ses-02", "visit", "name of its folder not understood") in left
    said = capsys.readouterr().err
    assert "sub-1_ses-2_T1w.nii.gz of sub-1, ses-2, is not read: it lies in ses-2, not in anat" in said
    assert "the folder Ses-02 of sub-2 is not read" in said
    assert "the folder Sub_03 is not read" in said
    assert "sourcedata" not in said
