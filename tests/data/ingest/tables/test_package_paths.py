"""`package:` names a file of an installed package, which is found without importing any."""

import sys

import pytest

from framework.data.ingest.tables.table_file import locate
from framework.errors import UserError


@pytest.fixture
def loud(tmp_path, monkeypatch):
    """A package that says so when it is imported."""
    (tmp_path / "loud" / "inner").mkdir(parents=True)
    (tmp_path / "loud" / "__init__.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "loud" / "inner" / "table.csv").write_text("a\n1\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "loud" / "inner" / "table.csv"


def test_neither_a_package_nor_its_parent_is_imported(loud):
    assert locate("package:loud/inner/table.csv") == loud
    assert locate("package:loud.inner/table.csv") == loud
    assert "loud" not in sys.modules


@pytest.mark.parametrize("path", ["package:loud.other/x", "package:.loud/x", "package:/x", "package:lo ud/x"])
def test_what_is_no_package_is_said(loud, path):
    with pytest.raises(UserError, match="is not installed"):
        locate(path)


def test_a_package_has_no_files_outside_its_folder(loud):
    with pytest.raises(UserError, match="has no file"):
        locate("package:loud.inner/../../loud/inner/table.csv")
