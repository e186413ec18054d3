"""A small BIDS folder: two subjects, two sessions, T1w and FLAIR."""

from pathlib import Path

import nibabel
import numpy as np
import pytest


def _save(path: Path, seed: int) -> None:
    """A volume of noise, 5 mm voxels, stored as LPS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).integers(0, 1000, (14, 15, 12)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-5.0, -5.0, 5.0, 1.0])), path)


@pytest.fixture
def save():
    return _save


@pytest.fixture
def bids_folder(tmp_path) -> Path:
    root = tmp_path / "bids"
    for subject in ("sub-1", "sub-2"):
        for session in ("ses-1", "ses-2"):
            for modality in ("T1w", "FLAIR"):
                _save(root / subject / session / "anat" / f"{subject}_{session}_{modality}.nii.gz", len(session))
        (root / subject / f"{subject}_sessions.tsv").write_text(
            "session_id\tdays_since_first\tedss\nses-1\t0\t2\nses-2\t365.25\tn/a\n"
        )
    (root / "participants.tsv").write_text("participant_id\tsex\tage\nsub-1\tF\t50\nsub-2\tn/a\t60\n")
    return root
