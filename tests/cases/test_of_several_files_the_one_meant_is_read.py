"""run=first took the first by spelling: run-10 before run-2, a contrast agent before none, an inversion before a part.

github.com/jmtyszka/bidskit/issues/32, github.com/nipreps/fmriprep/issues/1767, github.com/nipreps/fmriprep/issues/2227
"""

import pytest

from framework.data.cohort.ledger import Ledger
from framework.data.ingest.base import LEDGER, ingest
from framework.data.ingest.bids import Bids
from framework.errors import UserError
from tests.scans import GRID, save


def folder(root, *sessions):
    """A BIDS folder of one subject: of each session the names of its files, less what all begin with."""
    table = ["session_id\tdays_since_first"]
    for number, names in enumerate(sessions, 1):
        table.append(f"ses-{number}\t{365 * number}")
        for name in names:
            save(root / f"b/sub-1/ses-{number}/anat/sub-1_ses-{number}_{name}")
    (root / "b/sub-1/sub-1_sessions.tsv").write_text("\n".join(table) + "\n")
    return root / "b"


def reader(root, **changed):
    time = {"column": "days_since_first", "units": "days"}
    return Bids(str(root), {"T1w": GRID}, time, **changed)


def taken(root, tmp_path, **changed):
    """The files that were read, and why others were not."""
    cohort = ingest(reader(root, **changed), str(tmp_path / "c"))
    visits = cohort.manifest["subjects"][0]["visits"]
    sources = [visit["scans"]["T1w"]["source"].split("_ses-")[1][2:] for visit in visits]
    left = {e.item: e.reason for e in Ledger.read(f"{cohort.path}/{LEDGER}").entries if e.status == "excluded"}
    return sources, left


@pytest.mark.parametrize(
    ("names", "right"),
    [
        (["run-2_T1w.nii.gz", "run-10_T1w.nii.gz"], "run-2_T1w.nii.gz"),
        (["run-02_T1w.nii.gz", "run-1_T1w.nii.gz"], "run-1_T1w.nii.gz"),
        (["run-2_T1w.nii.gz", "T1w.nii.gz"], "T1w.nii.gz"),
    ],
)
def test_the_first_run_is_the_first_by_number(tmp_path, names, right):
    root = folder(tmp_path, names)
    with pytest.raises(UserError, match=r"has 2 files of T1w.*add data.reader.run=first"):
        reader(root).read()
    sources, left = taken(root, tmp_path, run="first")
    assert sources == [right]
    assert list(left.values()) == ["not the first run"]


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["run-1_T1w.nii.gz", "ce-GAD_run-2_T1w.nii.gz"], r"differ in ce \(GAD, none\).*\+data.reader.entities.ce="),
        (["part-mag_T1w.nii.gz", "inv-1_T1w.nii.gz"], r"differ in inv \(1, none\)"),
        (["acq-a+b_T1w.nii.gz", "acq-c_T1w.nii.gz"], r"differ in acq \(a\+b, c\)"),
        (["T1w.nii.gz", "T1w.nii"], r"differ in ending \(.nii, .nii.gz\); keep one"),
        (["run-1_T1w.nii.gz", "run-01_T1w.nii.gz"], "the same run twice; keep one"),
        (["run-1_T1w.nii.gz", "run-1a_T1w.nii.gz"], "is not a number"),
    ],
)
def test_files_that_differ_in_more_than_their_run_are_refused(tmp_path, names, complaint):
    with pytest.raises(UserError, match=complaint) as caught:
        reader(folder(tmp_path, names), run="first").read()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entities", "right"),
    [
        ({"ce": None}, "run-1_T1w.nii.gz"),
        ({"ce": "GAD"}, "ce-GAD_run-2_T1w.nii.gz"),
        ({"T1w": {"run": 2}}, "ce-GAD_run-2_T1w.nii.gz"),
        ({"ce": "GAD", "T1w": {"ce": None}}, "run-1_T1w.nii.gz"),
    ],
)
def test_entities_say_which(tmp_path, entities, right):
    root = folder(tmp_path, ["run-1_T1w.nii.gz", "ce-GAD_run-2_T1w.nii.gz"])
    sources, left = taken(root, tmp_path, entities=entities)
    assert sources == [right]
    assert all("entities ask for" in reason for reason in left.values())
    assert len(left) == 1


def test_an_entity_that_no_file_has_is_refused(tmp_path):
    root = folder(tmp_path, ["acq-mprage_T1w.nii.gz"])
    with pytest.raises(UserError, match="entity 'aqc' is unknown; did you mean 'acq'"):
        reader(root, entities={"aqc": "mprage"}).read()


def test_another_contrast_at_the_follow_up_is_named(tmp_path, capsys):
    root = folder(tmp_path, ["T1w.nii.gz"], ["ce-GAD_T1w.nii.gz"])
    ingest(reader(root), str(tmp_path / "c"))
    assert capsys.readouterr().err == (
        "warning: T1w of 1 subjects differs in ce from visit to visit (sub-1: none, GAD), as if another contrast were "
        "a change; +data.reader.entities.ce=<value or null> takes one of them\n"
    )
    ingest(reader(root, entities={"ce": None}), str(tmp_path / "d"))
    assert capsys.readouterr().err == ""
