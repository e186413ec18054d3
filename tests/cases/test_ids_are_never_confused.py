"""Ids of subjects: no two fall together, none is lost, and what is written in two ways is one."""

import pytest

from framework.data.cohort.ledger import Ledger
from framework.data.cohort.store import open_cohort
from framework.data.ingest.base import LEDGER
from framework.errors import UserError
from tests.cases.tables import read


@pytest.mark.parametrize("id", ["1.00202E+11", "1,00202e+11"])
def test_an_id_that_a_spreadsheet_rounded_is_refused(tmp_path, id):
    with pytest.raises(UserError, match=r"t.csv line 2: the subject's id .* was rounded by a spreadsheet"):
        read(tmp_path, f'subject,time,score\n"{id}",0,29\n"{id}",0.5,12\n')


def test_a_visits_id_that_a_spreadsheet_rounded_is_refused(tmp_path):
    with pytest.raises(UserError, match="the visit's id"):
        read(tmp_path, "subject,time,score,visit\na,0,29,2.01E+11\n", visit="visit")


def test_an_id_that_only_looks_like_an_exponent_is_an_id(tmp_path):
    assert read(tmp_path, "subject,time,score\n1E5,0,29\n2E10,0,3\n").subjects == ("1E5", "2E10")


@pytest.mark.parametrize(
    ("one", "other"),
    [("01", "1"), ("s01", "S01"), ("site1-007", "site1-7"), ("Å1", "å1"), ("ＡＢ", "AB")],  # the last in full width
)
def test_ids_that_may_be_one_persons_are_refused_unless_taken_exactly(tmp_path, one, other):
    text = f"subject,time,score\n{one},0,29\n{other},0.5,12\n"
    with pytest.raises(UserError, match=r"differ in case, leading zeros .* alone.*exact_ids=true"):
        read(tmp_path, text)
    assert read(tmp_path, text, exact_ids=True).subjects == tuple(sorted((one, other)))


@pytest.mark.parametrize(
    ("one", "other"),
    [("Ma\u0301ria", "M\u00e1ria"), ("a1", "a1\u200b"), ("a b", "a\u00a0b"), ("7", "7.0"), ("12.0", "12")],
)
def test_two_spellings_of_one_id_are_one(tmp_path, one, other):
    cohort = read(tmp_path, f"subject,time,score\n{one},0,29\n{other},0.5,12\n")
    assert len(cohort.subjects) == 1
    assert cohort.valid.sum() == 2


def test_decimals_of_an_id_that_mean_something_stay(tmp_path):
    cohort = read(tmp_path, "subject,time,score\n3.0,0,29\n3.1,0,12\n3.10,0,1\n")
    assert cohort.subjects == ("3.0", "3.1", "3.10")


def test_a_subject_called_as_a_missing_code_is_no_missing_subject(tmp_path):
    text = "subject,time,score\n999,0,29\nNA,0,12\n,0,4\n"
    with pytest.raises(UserError, match=r"line 3: the id in column 'subject' is 'NA', a code of missing values"):
        read(tmp_path, text)
    cohort = read(tmp_path, text.replace("NA", "b"), missing=("NA", "999"))
    assert cohort.subjects == ("999", "b")
    assert Ledger.read(f"{cohort.path}/{LEDGER}").entries[0].reason == "no subject in column 'subject'"
    assert read(tmp_path, text, missing=("n/a",)).subjects == ("999", "NA")


def test_ids_of_floats_too_large_to_be_exact_are_refused(tmp_path):
    import pyarrow
    import pyarrow.parquet

    file = tmp_path / "t.parquet"
    for ids, whole in (([1e5, 2e5], True), ([1e17, 2e17], False)):
        pyarrow.parquet.write_table(pyarrow.table({"subject": ids, "time": [0, 0], "score": [1, 2]}), file)
        if whole:
            assert read(tmp_path, file.read_bytes(), name="t.parquet").subjects == ("100000", "200000")
        else:
            with pytest.raises(UserError, match="rounded by a spreadsheet"):
                read(tmp_path, file.read_bytes(), name="t.parquet")


def test_a_refused_table_leaves_the_cohort_that_was_there(tmp_path):
    first = read(tmp_path, "subject,time,score\na,0,29\n")
    with pytest.raises(UserError):
        read(tmp_path, "subject,time,score\nNA,0,29\n")
    assert open_cohort(first.path).fingerprint == first.fingerprint
