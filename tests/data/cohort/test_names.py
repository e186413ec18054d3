"""A name becomes that of files, columns and arrays, so that one which cannot be is refused before anything is trained."""

import pytest

from framework.data.cohort.names import require_file_name, require_name
from framework.data.cohort.schema import Modality, Schema, Subject, Variable, Visit, validate
from framework.data.ingest.tables.table_file import read_sheet
from framework.errors import UserError

REFUSED = ["", ".", "..", "=x", "+x", "-x", "@x", "\tx", "x\n", "x\x00y", " x", "x ", "x" * 300, "ü" * 80]


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_variable_and_no_modality_may_be_called(name):
    for made in (lambda: Variable(name), lambda: Modality(name, (1, 1, 1), (1.0, 1.0, 1.0))):
        with pytest.raises(UserError, match="give it another name") as told:
            made()
        assert "\n" not in str(told.value)
        assert len(str(told.value)) < 400


@pytest.mark.parametrize("name", ["../../../evil", "a/b", "a\\b", "c:d"])
def test_a_modality_is_no_path(name):
    with pytest.raises(UserError, match="slash or a colon"):
        Modality(name, (1, 1, 1), (1.0, 1.0, 1.0))


def test_ids_and_levels_hold_no_control_characters(tmp_path):
    with pytest.raises(UserError, match="control character"):
        Variable("x", levels=("a", "b\r"))
    with pytest.raises(UserError, match="control character"):
        validate(Subject("a\tb", (Visit("1", 0.0),)), Schema())
    with pytest.raises(UserError, match="control character"):
        validate(Subject("a", (Visit("1\r", 0.0),)), Schema())
    (tmp_path / "t.csv").write_text('id,x\n"a\rb",1\n')
    with pytest.raises(UserError, match=r"t.csv line .*control character"):
        read_sheet(tmp_path / "t.csv", ids=["id"])


@pytest.mark.parametrize("name", ["MMSE", "M/F", "CDR-SB", "größe", "x" * 80, "a b", "...", "p-tau181/Aβ42"])
def test_ordinary_names_are_taken(name):
    assert require_name(name, "a variable") == name
    assert "/" in name or require_file_name(name, "a modality") == name
