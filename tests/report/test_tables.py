import io
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from framework.report import tables
from framework.report.tables import Cell, Table, words

AWKWARD = r"50% & $x_1$ #2 {a} ~b^c \d <e> −1 ↓ → ≥ R² “q” …"


def table(rows: int = 3, name: str = "a b/c", text: str = "x") -> Table:
    body = [[*words(f"g{i // 2}", text), Cell(f"{i / 3:.2f}", mark="best" if i == 1 else "")] for i in range(rows)]
    data = pd.DataFrame({"group": [f"g{i // 2}" for i in range(rows)], "value": np.arange(rows) / 3})
    return Table(name, f"What {text} is", ("Group", "Word", "Value"), body, data, words=2, grouped=True)


def test_csv_is_unrounded_and_latex_rounded():
    one = table()
    assert np.allclose(pd.read_csv(io.StringIO(one.csv))["value"], [0, 1 / 3, 2 / 3], rtol=1e-9)
    assert r"\textbf{0.33}" in one.latex
    assert [len(group) for group in one.groups] == [2, 1]
    assert one.latex.count("g0") == one.latex.count("g1") == one.latex.count(r"\addlinespace") == 1


def test_names_are_files_and_old_tables_go(tmp_path):
    tables.write([table(name="old")], tmp_path / "t")
    tables.write([table()], tmp_path / "t")
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == ["a%20b%2Fc.csv", "a%20b%2Fc.tex"]


def test_rows_must_fit_their_head():
    with pytest.raises(ValueError, match="rows of 2 cells under a head of 1"):
        Table("t", "", ("a",), [words(1, 2)], pd.DataFrame())


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex to compile the tables with")
def test_latex_compiles(tmp_path):
    made = [table(text=AWKWARD), table(tables.PAGE + 1, text=AWKWARD * 3), table(0)]
    text = "".join(one.latex for one in made)
    start = r"\documentclass{article}\usepackage{booktabs}\usepackage{longtable}\begin{document}"
    (tmp_path / "all.tex").write_text(f"{start}\n{text}\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-2000:]
    assert "longtable" in made[1].latex
    assert "longtable" not in made[0].latex


def test_escaped_signs_are_all_there():
    assert tables.escaped("a_b & 5%") == r"a\_b \& 5\%"
    assert tables.escaped("-1.5 well-known") == r"$-$1.5 well-known"
