"""BIDS with sessions: real and made-up folders, whole and broken."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from framework.data.cohort.ledger import Entry, Ledger
from framework.data.cohort.store import verify
from framework.data.ingest.base import LEDGER, ingest
from framework.data.ingest.bids import Bids
from framework.errors import UserError

REAL = Path(__file__).parents[4] / "shared" / "data" / "ms-longitudinal"
GRID = {"shape": [6, 6, 6], "spacing": [10, 10, 10]}


def reader(root: Path, **changed) -> Bids:
    keywords = {
        "modalities": {"T1w": GRID, "FLAIR": GRID},
        "time": {"column": "days_since_first", "units": "days"},
        "variables": {"age": {"baseline_plus_elapsed": True, "per_year": 1}, "edss": {}},
        "static": {"sex": {"levels": ["F", "M"]}},
    }
    return Bids(str(root), **keywords | changed)


def unused(path: Path) -> list[Entry]:
    return [entry for entry in Ledger.read(f"{path}/{LEDGER}").entries if entry.status != "used"]


def test_a_whole_folder(bids_folder, tmp_path, capsys):
    made = ingest(reader(bids_folder), str(tmp_path / "c"))
    assert capsys.readouterr().err == ""
    assert made.subjects == ("sub-1", "sub-2")
    assert made.visits[0] == ("ses-1", "ses-2")
    np.testing.assert_array_equal(made.times, [[0, 1], [0, 1]])
    np.testing.assert_array_equal(made.values[..., 0], [[50, 51], [60, 61]])
    assert all(table.all() for table in made.present.values())
    assert unused(tmp_path / "c") == [
        Entry("sub-1", "ses-2", "edss", "missing", "no value in column 'edss'"),
        Entry("sub-2", "", "sex", "missing", "no value in column 'sex'"),
        Entry("sub-2", "ses-2", "edss", "missing", "no value in column 'edss'"),
    ]
    assert list(verify(made.path, str(bids_folder))) == []
    assert set(made.manifest["provenance"]["sources"]) == {
        "participants.tsv",
        *(f"sub-{i}/sub-{i}_sessions.tsv" for i in (1, 2)),
    }


def test_what_is_not_there_is_ledgered(bids_folder, tmp_path):
    (bids_folder / "sub-1/ses-1/anat/sub-1_ses-1_T1w.nii.gz").unlink()
    shutil.rmtree(bids_folder / "sub-2")
    (bids_folder / "sub-1" / "ses-3").mkdir()
    (bids_folder / "sub-3").mkdir()
    with (bids_folder / "sub-1/sub-1_sessions.tsv").open("a") as table:
        table.write("ses-4\t800\tn/a\n")
    made = ingest(reader(bids_folder), str(tmp_path / "c"))
    assert made.subjects == ("sub-1",)
    reasons = {(e.subject, e.visit, e.item): e.reason for e in unused(tmp_path / "c")}
    assert reasons["sub-1", "ses-1", "T1w"] == "no file"
    assert "no folder" in reasons["sub-2", "", "subject"]
    assert "no time" in reasons["sub-1", "ses-3", "visit"]
    assert "no scan and no value" in reasons["sub-1", "ses-4", "visit"]
    assert "none of its visits" in reasons["sub-3", "", "subject"]


def test_an_unreadable_scan_stops_or_is_excluded(bids_folder, tmp_path):
    file = bids_folder / "sub-2/ses-2/anat/sub-2_ses-2_T1w.nii.gz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 8
    file.write_bytes(content)
    with pytest.raises(
        UserError, match=r"subject 'sub-2', visit 'ses-2', T1w: cannot read sub-2/ses-2/anat/.*on_error=exclude"
    ):
        ingest(reader(bids_folder), str(tmp_path / "c"))
    assert not (tmp_path / "c").exists()
    made = ingest(reader(bids_folder, on_error="exclude"), str(tmp_path / "c"))
    assert not made.present["T1w"][1, 1]
    assert made.present["T1w"].sum() == 3
    assert [e.item for e in unused(tmp_path / "c") if e.status == "excluded"] == ["T1w"]


def test_of_several_runs_one_is_chosen_aloud(save, bids_folder, tmp_path):
    save(bids_folder / "sub-1/ses-1/anat/sub-1_ses-1_run-02_T1w.nii.gz", 5)
    save(bids_folder / "sub-1/ses-1/anat/sub-1_ses-1_PDw.nii.gz", 6)
    with pytest.raises(UserError, match=r"'sub-1', visit 'ses-1' has 2 files of T1w.*data.reader.run=first"):
        reader(bids_folder).read()
    ingest(reader(bids_folder, run="first"), str(tmp_path / "c"))
    assert [e.item for e in unused(tmp_path / "c") if e.status == "excluded"] == ["sub-1_ses-1_run-02_T1w.nii.gz"]


def test_a_folder_without_sessions_is_one_visit_each(save, tmp_path):
    save(tmp_path / "b/sub-1/anat/sub-1_T1w.nii.gz", 1)
    made = ingest(reader(tmp_path / "b", modalities={"T1w": GRID}, variables={}, static={}), str(tmp_path / "c"))
    assert made.visits == (("1",),)
    assert made.present["T1w"].all()


def write(file: str, text: str):
    return lambda root: (root / file).write_text(text)


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (lambda root: (root / "sub-1/sub-1_sessions.tsv").unlink(), "'sub-1' has 2 sessions but no sub-1_sessions.tsv"),
        (lambda root: shutil.rmtree(root / "sub-1") or shutil.rmtree(root / "sub-2"), "no folder sub-"),
        (lambda root: (root / "participants.tsv").unlink(), "column 'age' is unknown"),
        (
            write("participants.tsv", "participant_id\tsex\tage\nsub-1\tF\t5\nsub-1\tF\t6\n"),
            "subject 'sub-1' stands twice",
        ),
        (write("participants.tsv", "participant_id\tsex\tage\nsub-1\tfemale\t5\n"), "sex .* none of its levels"),
        (write("participants.tsv", "participant\tsex\tage\nsub-1\tF\t5\n"), "did you mean 'participant'"),
        (
            write("sub-1/sub-1_sessions.tsv", "session_id\tdays\tedss\nses-1\t0\t1\n"),
            "column 'days_since_first' is unknown",
        ),
        (
            write("sub-1/sub-1_sessions.tsv", "session_id\tdays_since_first\tedss\nses-1\t0\t1\nses-1\t9\t1\n"),
            "'ses-1' twice",
        ),
        (
            write("sub-1/sub-1_sessions.tsv", "session_id\tdays_since_first\tedss\nses-1\t0\t1\nses-2\t0\t1\n"),
            "same time",
        ),
        (
            write("sub-1/sub-1_sessions.tsv", "session_id\tdays_since_first\tedss\nses-1\t9\t1\nses-2\t0\t1\n"),
            "out of order",
        ),
        (write("sub-1/sub-1_sessions.tsv", "session_id\tdays_since_first\tedss\n1\t0\t1\n"), "without its prefix"),
        (write("sub-1/ses-1/anat/sub-2_ses-1_T1w.nii.gz", ""), "named otherwise"),
    ],
)
def test_a_broken_folder_is_refused_before_a_scan_is_read(bids_folder, tmp_path, fault, complaint):
    fault(bids_folder)
    with pytest.raises(UserError, match=complaint) as caught:
        ingest(reader(bids_folder), str(tmp_path / "c"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (
            {"modalities": {"T1w": {"shape": [6, 6], "spacing": [1, 1, 1]}}},
            r"modalities.T1w.shape is \[6, 6\]; expected a list of 3",
        ),
        ({"modalities": {"T1w": {"shape": [6, 6, 6], "spacing": [1, 1, 0]}}}, "above 0"),
        ({"modalities": {}}, "modalities is"),
        ({"on_error": "ignore"}, "on_error 'ignore'"),
        ({"run": "last"}, "run 'last'"),
    ],
)
def test_a_wrong_configuration_is_refused(bids_folder, changed, complaint):
    with pytest.raises(UserError, match=complaint):
        reader(bids_folder, **changed).read()


@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/data/ms-longitudinal beside the repository")
def test_two_real_patients(tmp_path, capsys):
    """Two subjects × two visits × three modalities, one scan missing, each visit on another LPS grid."""
    with initialize_config_module("conf", version_base="1.3"):
        config = compose("ingest", ["data=bids", f"data.path={REAL}"])
    made = ingest(instantiate(config.data.reader, _convert_="all"), str(tmp_path / "ms"))
    assert capsys.readouterr().err == ""
    assert made.subjects == ("sub-ms01", "sub-ms03")
    np.testing.assert_allclose(made.times * 365.25, [[0, 203], [0, 671]])
    np.testing.assert_allclose(made.values[..., made.column("age")], [[20, 20 + 203 / 365.25], [19, 19 + 671 / 365.25]])
    assert {m.name for m in made.schema.modalities} == {"T1w", "T2w", "FLAIR"}
    assert {name: int(table.sum()) for name, table in made.present.items()} == {"T1w": 3, "T2w": 4, "FLAIR": 4}
    assert unused(tmp_path / "ms") == [Entry("sub-ms03", "ses-1", "T1w", "missing", "no file")]
    assert list(verify(made.path, str(REAL))) == []
    for name, table in made.present.items():
        for i, j in np.argwhere(table).tolist():
            head = made.voxels(name, i, j)[..., 0]
            # a head fills the middle of its field of view, and air its corners
            assert head[12:20, 12:20, 12:20].mean() > 5 * head[:3, :3, :3].mean()
