"""No text that is written is a formula to a spreadsheet, and all of it is read back as it was."""

import csv
import io

import pandas as pd
import pytest

from framework.data.cohort.ledger import Ledger
from framework.data.cohort.quoting import as_csv, as_read, quoted, unquoted

FORMULAS = ["=1+1", "+cmd", "-cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", "'=1", "''=1", "-", "+1-2"]
WRITTEN = [text for text in FORMULAS if text.isprintable()]  # ids and levels hold no control characters
PLAIN = ["", "s01", "-1", "+2.5", "-1e-3", "a=b", "'tis", "1-2", "ses-01", "'", "NA"]


@pytest.mark.parametrize("text", [*FORMULAS, *PLAIN])
def test_what_is_quoted_is_read_back(text):
    assert unquoted(quoted(text)) == text


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_quoted(text):
    assert quoted(text) == f"'{text}"


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_formula_stays(text):
    assert quoted(text) == text


def test_quoting_is_one_to_one():
    texts = [mark * count + text for text in [*FORMULAS, *PLAIN] for mark in "'" for count in range(3)]
    assert len({quoted(text) for text in texts}) == len(set(texts))


def test_a_table_keeps_its_numbers_and_its_texts():
    table = pd.DataFrame({"subject": WRITTEN, "=x": -1.5, "kind": pd.Categorical(["-a"] * len(WRITTEN))})
    text = as_csv(table)
    header, *rows = list(csv.reader(io.StringIO(text, newline="")))
    assert header == ["subject", "'=x", "kind"]
    assert {row[1] for row in rows} == {"-1.5"}
    assert all(row[0].startswith("'") and row[2] == "'-a" for row in rows)
    back = as_read(pd.read_csv(io.StringIO(text), dtype={"subject": str, "kind": str}))
    pd.testing.assert_frame_equal(back, table.astype({"kind": str}), check_dtype=False)


def test_a_ledger_is_read_back_and_holds_no_formula(tmp_path):
    ledger = Ledger()
    for subject in WRITTEN:
        ledger.add(subject, "", "subject", "excluded", "-why")
    ledger.write(str(tmp_path / "ledger.csv"))
    assert Ledger.read(str(tmp_path / "ledger.csv")).entries == ledger.entries
    with (tmp_path / "ledger.csv").open(newline="") as file:
        assert not [cell for row in csv.reader(file) for cell in row if cell[:1] in tuple("=+-@\t\r")]
