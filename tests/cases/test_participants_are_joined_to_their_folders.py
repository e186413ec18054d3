"""What participants.tsv and sessions.tsv say reaches the folders that they mean, or it is an error."""

import shutil

import nibabel
import numpy as np
import pytest

from framework.data.ingest.base import ingest
from framework.data.ingest.bids import Bids
from framework.errors import UserError
from tests.cases.tables import warnings

GRID = {"shape": [4, 4, 4], "spacing": [15, 15, 15]}
SESSIONS = "session_id\tdays_since_first\nses-1\t0\nses-2\t365\n"


@pytest.fixture
def folder(tmp_path):
    for subject in ("sub-001", "sub-002"):
        for session in ("ses-1", "ses-2"):
            file = tmp_path / "b" / subject / session / "anat" / f"{subject}_{session}_T1w.nii.gz"
            file.parent.mkdir(parents=True)
            voxels = np.random.default_rng(1).integers(0, 1000, (6, 5, 6)).astype(np.int16)
            nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-10.0, -10, 10, 1])), file)
        (tmp_path / "b" / subject / f"{subject}_sessions.tsv").write_text(SESSIONS)
    return tmp_path


def read(folder, participants: str, **changed):
    (folder / "b" / "participants.tsv").write_text(participants)
    keywords = {
        "modalities": {"T1w": GRID},
        "time": {"column": "days_since_first", "units": "days"},
        "variables": {"age": {"baseline_plus_elapsed": True, "per_year": 1, "units": "years"}},
        "static": {"sex": {"levels": ["F", "M"]}},
    }
    return ingest(Bids(str(folder / "b"), **keywords | changed), str(folder / "c"), "overwrite")


def people(one: str, other: str) -> str:
    return f"participant_id\tsex\tage\n{one}\tF\t50\n{other}\tM\t60\n"


@pytest.mark.parametrize("ids", [("sub-001", "sub-002"), ("001", "002"), ("SUB-001".replace("SUB", "sub"), "002")])
def test_a_label_with_or_without_its_prefix_is_the_same(folder, ids):
    cohort = read(folder, people(*ids))
    assert cohort.static_observed.all()
    assert cohort.values[:, 0, 0].tolist() == [50, 60]
    assert warnings(cohort) == []


@pytest.mark.parametrize("ids", [("1", "2"), ("sub-1", "sub-2"), ("sub-001", "sub-2")])
def test_lost_zeros_are_refused_and_the_likely_folder_named(folder, ids):
    with pytest.raises(
        UserError, match=r"[12] of 2 participants have no folder of their name; '(sub-)?[12]' is probably"
    ):
        read(folder, people(*ids))


def test_ids_of_another_scheme_are_refused(folder):
    with pytest.raises(UserError, match="2 of 2 participants have no folder of their name; one is called 'sub-001'"):
        read(folder, people("A", "B"))


def test_how_many_find_no_folder_is_said(folder):
    (said,) = warnings(read(folder, people("sub-001", "sub-009")))
    assert "1 of 2 participants have no folder, and 1 of 2 folders no row" in said


def test_a_session_whose_label_lost_a_zero_is_refused(folder):
    (folder / "b/sub-001/sub-001_sessions.tsv").write_text(SESSIONS.replace("ses-2", "ses-02"))
    with pytest.raises(UserError, match="session_id 'ses-02' has no folder, and is probably 'ses-2'"):
        read(folder, people("sub-001", "sub-002"))


def test_a_modality_that_nobody_has_is_refused(folder):
    with pytest.raises(UserError, match=r"no file of FLAIR at any of 4 visits.*~data.reader.modalities.FLAIR"):
        read(folder, people("sub-001", "sub-002"), modalities={"T1w": GRID, "FLAIR": GRID})


def test_months_in_labels_must_come_in_the_order_of_time(folder):
    for subject in ("sub-001", "sub-002"):
        root = folder / "b" / subject
        for old, new in (("ses-1", "ses-M012"), ("ses-2", "ses-M000")):
            shutil.move(root / old, root / new)
            for file in (root / new / "anat").iterdir():
                file.rename(file.with_name(file.name.replace(old, new)))
        (root / f"{subject}_sessions.tsv").write_text(
            SESSIONS.replace("ses-1", "ses-M012").replace("ses-2", "ses-M000")
        )
    with pytest.raises(UserError, match="visits out of order: the codes 'ses-M012' and 'ses-M000'"):
        read(folder, people("sub-001", "sub-002"))
