"""The ledger: every subject and visit once, and nothing without a reason."""

import pytest

from framework.data.cohort.ledger import Entry, Ledger
from framework.errors import UserError


def ledger() -> Ledger:
    made = Ledger()
    made.add("a", "", "subject", "used")
    made.add("a", "1", "visit", "used")
    made.add("a", "1", "T1w", "missing", 'no file, "lost"')
    made.add("a", "2", "visit", "excluded", "no time")
    made.add("b", "", "subject", "excluded", "none of its visits can be used")
    made.add("", "line 9", "visit", "excluded", "no subject")
    return made


def test_it_survives_being_written(tmp_path):
    ledger().write(str(tmp_path / "ledger.csv"))
    assert Ledger.read(str(tmp_path / "ledger.csv")).entries == ledger().entries


def test_it_counts():
    assert ledger().summary() == "1 subjects used, 1 excluded; 1 visits used, 2 excluded; missing: T1w 1"
    assert ledger().used() == {"a": ["1"]}
    assert "no time (1 times)" in ledger().reasons()


def test_it_accounts_for_all():
    ledger().check({"a": ["1"]})
    for written in ({}, {"a": ["1", "2"]}, {"a": ["1"], "b": []}):
        with pytest.raises(RuntimeError, match="written"):
            ledger().check(written)


@pytest.mark.parametrize(
    "extra",
    [Entry("a", "", "subject", "used"), Entry("a", "2", "visit", "used"), Entry("c", "1", "visit", "excluded", "x")],
)
def test_it_accounts_for_each_once(extra):
    with pytest.raises(RuntimeError, match="the ledger"):
        Ledger([*ledger().entries, extra]).check({"a": ["1"]})


def test_an_exclusion_has_a_reason():
    with pytest.raises(ValueError, match="reason"):
        Ledger().add("a", "", "subject", "excluded")
    with pytest.raises(ValueError, match="lost"):
        Ledger().add("a", "", "subject", "lost", "somewhere")


def test_another_file_is_no_ledger(tmp_path):
    with pytest.raises(UserError, match="no ledger at"):
        Ledger.read(str(tmp_path / "ledger.csv"))
    (tmp_path / "ledger.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="is no ledger"):
        Ledger.read(str(tmp_path / "ledger.csv"))
