"""`python -m experiments.ingest`, as a user meets it."""

import sys
from pathlib import Path

import pytest

from experiments import ingest, verify
from framework.data.cohort.store import open_cohort

TEXT = "subject,time,score\na,0,1\na,1,2\nb,0,\nb,2,3\n"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    (tmp_path / "visits.csv").write_text(TEXT)

    def command(*arguments: str, task=ingest.main) -> tuple[int, str, list[str]]:
        """Exit code, standard output, and the lines of standard error."""
        plain = [
            "data=table",
            f"data.path={tmp_path}/visits.csv",
            f"data.store={tmp_path}/store",
            "+data.reader.variables.score={}",
        ]
        monkeypatch.setattr(sys, "argv", ["ingest", *plain, *arguments])
        try:
            task()
            code = 0
        except SystemExit as exit:
            code = exit.code
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    return command


def test_a_cohort_is_written_verified_and_said(run, tmp_path):
    code, out, err = run()
    assert (code, err) == (0, [])
    assert out.splitlines() == [
        "2 subjects used, 0 excluded; 3 visits used, 1 excluded",
        f"store:  {tmp_path}/store",
        f"ledger: {tmp_path}/store/ledger.csv",
        "verify: every scan and table is as it was written, and every source file as it was read",
    ]
    assert open_cohort(f"{tmp_path}/store").visits == (("1", "2"), ("2",))


def test_verify_names_what_is_lost(run, tmp_path):
    run()
    assert run(task=verify.main)[0] == 0
    for file in (tmp_path / "store" / "series.zarr" / "values" / "c").rglob("0"):
        if file.is_file():
            file.unlink()
    code, out, err = run(task=verify.main)
    assert code == 1
    assert "subject 'a': its clinical values" in out
    assert "if_exists=overwrite" in err[-1]


@pytest.mark.parametrize(
    ("mistake", "complaint"),
    [
        ("data.reader.subjct=id", "did you mean 'data.reader.subject'"),
        ("data.reader.subject=3", "data.reader.subject"),
        ("data.reader.time.units=day", "did you mean 'days'"),
        ("data.reader.subject=person", "column 'person' is unknown"),
        ("data.path=nowhere.csv", "nothing at nowhere.csv"),
        ("data=nowhere", "nowhere"),
        ("action=verify", "of an earlier version was replaced: use the command experiments.verify"),
        ("if_exists=replace", "expected one of"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(run, tmp_path, mistake, complaint):
    before = sorted(Path(tmp_path).iterdir())
    code, out, err = run(mistake)
    assert code == 1
    assert out == ""
    assert complaint in err[-1]
    assert err[-1].startswith("error: ")
    assert sorted(Path(tmp_path).iterdir()) == before
