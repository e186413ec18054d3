"""Patterns of .bidsignore against those of git itself."""

import shutil
import subprocess
from pathlib import Path

import pytest

from framework.data.ingest.ignored import Ignored
from framework.errors import UserError

FILES = [
    "participants.tsv",
    "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",
    "sub-01/ses-1/anat/sub-01_ses-1_T2w.nii.gz",
    "sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz",
    "sub-02/ses-1/anat/sub-02_ses-1_T1w.nii.gz",
    "sub-10/ses-1/anat/a b[1].nii.gz",
    "extra/sub-02/note.txt",
]
PATTERNS = [
    "sub-02/",
    "/sub-02",
    "sub-02",
    "sub-0[12]/",
    "sub-0[!2]",
    "*_T2w.nii.gz",
    "**/ses-2",
    "sub-01/**",
    "sub-01/ses-?/anat/*T1w*",
    "**/anat/*ses-1*",
    "# sub-01",
    "\\#sub-01",
    "sub-01/*\n!sub-01/ses-2",
    "*.nii.gz\n!*_T1w.nii.gz",
    "sub-02/\n!sub-02/ses-1",
    "a b\\[1\\].nii.gz",
    "ses-1/anat",
    "anat/",
    "sub-01_ses-1_T1w.nii.gz/",
    "*.txt   ",
    "",
]


@pytest.mark.parametrize("text", PATTERNS)
@pytest.mark.skipif(shutil.which("git") is None, reason="needs git to compare with")
def test_they_set_aside_what_git_would(tmp_path, text):
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".bidsignore").write_text(text + "\n")
    (tmp_path / ".gitignore").write_text(text + "\n")
    git = ["git", "-C", str(tmp_path), "-c", "core.excludesFile="]
    subprocess.run([*git, "init", "-q"], check=True)
    asked = subprocess.run([*git, "check-ignore", *FILES], capture_output=True, text=True, check=False)
    ignored = Ignored.of(tmp_path)
    mine = {name for name in FILES if ignored.reason(tmp_path / name)}
    assert mine == {line.strip('"') for line in asked.stdout.splitlines()}


def test_the_reason_names_the_pattern(tmp_path):
    (tmp_path / "sub-02").mkdir()
    (tmp_path / ".bidsignore").write_text("# withdrawn\nsub-02/\n")
    assert Ignored.of(tmp_path).reason(tmp_path / "sub-02" / "x") == "set aside by .bidsignore (sub-02/)"
    assert Ignored.of(tmp_path / "sub-02").reason(tmp_path / "sub-02" / "x") is None


def test_one_that_is_no_text_is_named(tmp_path):
    (tmp_path / ".bidsignore").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="expected a text file of patterns"):
        Ignored.of(Path(tmp_path))
