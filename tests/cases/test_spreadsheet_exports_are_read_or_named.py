"""What spreadsheets make of tables is read where nothing is lost, and named where it is."""

import pytest

from framework.errors import UserError
from tests.cases.tables import read


@pytest.mark.parametrize(
    "text",
    [
        "subject,time,score,,\na,0,1,,\n,,,,\na,1,2,,\n",  # empty last columns, an empty line
        "subject,time,score\na,0,1,,\na,1,2,\n",  # cells beyond the header, all empty
        b"\xef\xbb\xbfsubject,time,score\ra,0,1\ra,1,2\r",
        "subject , time,score\r\na, 0,1\r\na,1 ,2\r\n",
    ],
)
def test_what_loses_nothing_is_read(tmp_path, text):
    cohort = read(tmp_path, text)
    assert cohort.subjects == ("a",)
    assert cohort.values[0, :, 0].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Export of 2024,,\nsubject,time,score\na,0,1\n", "the first is probably a title"),
        ("Export of 2024\nsubject,time,score\na,0,1\n", "the first is probably a title"),
        ("sep=;\nsubject;time;score\na;0;1\n", "begins with a line 'sep=;' of a spreadsheet; remove it"),
        ("subject;time;score\na;0;1.5\n", r"';' in its header, .*data.reader.separator=';'"),
        ("subject\ttime\tscore\na\t0\t1.5\n", "which is probably what separates its cells"),
        ("subject,time,score,,\na,0,1,,9\n", "has a cell in a column without a name"),
        ("subject,time,score\na,0,1,9\n", "line 2 has 4 cells; expected 3"),
        ("subject\ttime\n".encode("utf-16"), "but UTF-16, as a spreadsheet's 'Unicode text' is; save it again"),
        ("subject,time,score\nMüller,0,1\n".encode("latin-1"), "probably in an older encoding of Windows or Latin-1"),
        (b"PK\x03\x04rest", "a spreadsheet's workbook; save it again as CSV"),
        (b"\xd0\xcf\x11\xe0rest", "an older spreadsheet's workbook"),
    ],
)
def test_what_is_no_table_is_named(tmp_path, text, complaint):
    with pytest.raises(UserError, match=complaint) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_workbook_is_told_by_its_name(tmp_path):
    with pytest.raises(UserError, match="save its sheet as CSV"):
        read(tmp_path, b"PK\x03\x04", name="t.xlsx")


def test_the_day_number_of_a_spreadsheet_is_no_date_and_named(tmp_path):
    with pytest.raises(UserError, match="it looks like a spreadsheet's number of days"):
        read(tmp_path, "subject,time,score\na,38384,1\n", time={"column": "time", "units": "date"})
