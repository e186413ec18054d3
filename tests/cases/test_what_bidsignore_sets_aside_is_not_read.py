"""Subjects who had withdrawn, and were set aside in .bidsignore, were used.

github.com/bids-standard/bids-matlab/issues/823, github.com/khanlab/snakebids/issues/381
"""

import pytest

from framework.data.cohort.ledger import Ledger
from framework.data.ingest.base import LEDGER, ingest
from framework.data.ingest.bids import Bids
from framework.errors import UserError

GRID = {"shape": [6, 6, 6], "spacing": [10, 10, 10]}


def entries(root, tmp_path):
    time = {"column": "days_since_first", "units": "days"}
    made = ingest(Bids(str(root), {"T1w": GRID, "FLAIR": GRID}, time), str(tmp_path / "c"))
    left = [e for e in Ledger.read(f"{made.path}/{LEDGER}").entries if e.status == "excluded"]
    return made, [(e.subject, e.visit, e.item, e.reason) for e in left]


@pytest.mark.parametrize("pattern", ["sub-2/", "/sub-2", "sub-[2-9]"])
def test_a_subject(bids_folder, tmp_path, pattern):
    (bids_folder / ".bidsignore").write_text(f"# withdrawn\n{pattern}\n")
    made, left = entries(bids_folder, tmp_path)
    assert made.subjects == ("sub-1",)
    assert left == [("sub-2", "", "subject", f"set aside by .bidsignore ({pattern})")]


@pytest.mark.parametrize("table", [True, False])
def test_a_session(bids_folder, tmp_path, table):
    (bids_folder / ".bidsignore").write_text("sub-2/ses-1\n")
    if not table:
        (bids_folder / "sub-2/sub-2_sessions.tsv").unlink()  # of one session none is needed
    made, left = entries(bids_folder, tmp_path)
    assert made.visits[1] == ("ses-2",)
    assert left == ([("sub-2", "ses-1", "visit", "set aside by .bidsignore (sub-2/ses-1)")] if table else [])


def test_all_sessions(bids_folder, tmp_path):
    (bids_folder / ".bidsignore").write_text("sub-2/*\n")
    made, left = entries(bids_folder, tmp_path)
    assert made.subjects == ("sub-1",)
    assert ("sub-2", "", "subject", "all of its sessions are set aside by .bidsignore") in left


def test_a_scan(bids_folder, tmp_path):
    (bids_folder / ".bidsignore").write_text("*_FLAIR.nii.gz\n!sub-1_*\n")
    made, left = entries(bids_folder, tmp_path)
    assert made.present["FLAIR"].tolist() == [[True, True], [False, False]]
    assert {item for _, _, item, _ in left} == {f"sub-2_ses-{n}_FLAIR.nii.gz" for n in (1, 2)}


def test_everything(bids_folder, tmp_path):
    (bids_folder / ".bidsignore").write_text("sub-*\n")
    with pytest.raises(UserError, match="no folder sub-"):
        entries(bids_folder, tmp_path)
