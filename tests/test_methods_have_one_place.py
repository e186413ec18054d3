"""Each published method has one module, whose docstring begins with its name, and one page of the documentation."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
METHODS = {
    "BCa interval": "framework/evaluate/inference/bca_interval.py",
    "Holm letters": "framework/evaluate/inference/multiple_comparisons.py",
    "SMO": "framework/baselines/svm/svm_smo.py",
    "GRU-D": "framework/nn/heads/gru_d.py",
    "lane compaction": "framework/train/lane_compaction.py",
    "Hyperband": "framework/sweeps/search/hyperband.py",
    "T-LSTM": "framework/nn/heads/t_lstm.py",
    "QuickScorer": "framework/baselines/native/tree_predict.py",
    "FISTA": "framework/baselines/linear/fista.py",
    "Platt scaling": "framework/baselines/svm/platt.py",
    "conformal interval": "framework/forecast/calibration/correctors.py",
    "TRIPOD+AI": "framework/report/tripod/tripod_items.py",
}


def first_line(file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_text())) or ""
    return docstring.partition("\n")[0].replace("\u2019", "'").replace("'s ", " ").lower()


FIRST_LINES = {
    str(file.relative_to(ROOT)): first_line(file)
    for folder in ("framework", "experiments")
    for file in (ROOT / folder).rglob("*.py")
}


def naming(method: str) -> re.Pattern:
    return re.compile(rf"(?<!\w){re.escape(method.lower())}(?!\w)|(?<!\w){re.escape(method.lower())}s(?!\w)")


@pytest.mark.parametrize("method", METHODS)
def test_one_module_begins_with_the_name(method):
    assert [file for file, line in FIRST_LINES.items() if naming(method).search(line)] == [METHODS[method]]


@pytest.mark.parametrize("method", METHODS)
def test_one_page_names_the_method_and_links_its_source(method):
    link = re.compile(rf"\]\(\.\./{re.escape(METHODS[method])}\)")
    pages = [page for page in (ROOT / "docs").glob("*.md") if link.search(page.read_text())]
    assert len(pages) == 1
    [line] = [line for line in pages[0].read_text().splitlines() if link.search(line)]
    assert naming(method).search(line.lower())
