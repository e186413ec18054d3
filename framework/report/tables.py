"""Tables as values: words for the page and for LaTeX, the unrounded numbers for CSV."""

import base64
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd

from framework.data.cohort.quoting import as_csv
from framework.files import write_atomic

PAGE = 45  # rows that a printed page holds
LINE = 40  # letters, beyond which a column is prose

# what LaTeX reads as a command, and signs of these tables that its fonts lack as letters
LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "−": "$-$",
    "–": "--",
    "…": r"\dots{}",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "→": r"$\rightarrow$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "²": r"$^2$",
    "′": r"$'$",
    "×": r"$\times$",
    "“": "``",
    "”": "''",
}


@dataclass(frozen=True)
class Cell:
    """A cell: its text, the key it sorts by where that is not its text, and its emphasis: "best", "zero" or none."""

    text: str
    sort: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under a head; the first `words` columns hold words, the others numbers.

    With `grouped` the first column names groups of rows, each named once. `data` is the same, unrounded, a row a number
    with its interval rather than a row a model: what a program would read.
    """

    name: str
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    data: pd.DataFrame = field(repr=False)
    words: int = 1
    grouped: bool = False

    def __post_init__(self):
        odd = [row for row in self.rows if len(row) != len(self.head)]
        if odd:
            raise ValueError(f"table {self.name!r} has rows of {len(odd[0])} cells under a head of {len(self.head)}")

    @cached_property
    def groups(self) -> list[list[Sequence[Cell]]]:
        """The rows, those that share their first cell together; one group where nothing is grouped."""
        if not self.grouped:
            return [list(self.rows)] if self.rows else []
        made: list[list[Sequence[Cell]]] = []
        for row in self.rows:
            if made and made[-1][0][0] == row[0]:
                made[-1].append(row)
            else:
                made.append([row])
        return made

    @property
    def file(self) -> str:
        """Its name where a path needs one."""
        return quote(self.name, safe="")

    @cached_property
    def csv(self) -> str:
        return as_csv(self.data, float_format="%.10g", lineterminator="\n")

    @cached_property
    def latex(self) -> str:
        """A `table` that needs booktabs alone; one of more rows than a page holds is a `longtable`."""
        long = len(self.rows) > PAGE
        columns = "".join(map(self._column, range(len(self.head))))
        label = "tab:" + re.sub(r"\W+", "-", self.name).strip("-")
        caption = f"\\caption{{{escaped(self.caption)}}}\\label{{{label}}}"
        top = ["\\toprule", _line(map(escaped, self.head)), "\\midrule"]
        body = list(_with_rules(["\n".join(_lines(group, self.grouped)) for group in self.groups]))
        if long:
            start = [f"\\begin{{longtable}}{{{columns}}}", caption + r" \\", *top, "\\endhead"]
            whole = [*start, *body, "\\bottomrule", "\\end{longtable}"]
        else:
            start = ["\\begin{table}", "\\centering", caption, f"\\begin{{tabular}}{{{columns}}}", *top]
            whole = [*start, *body, "\\bottomrule", "\\end{tabular}", "\\end{table}"]
        needs = "% \\usepackage{booktabs}" + (" \\usepackage{longtable}" if long else "")
        return "\n".join([needs, *whole]) + "\n"

    def _column(self, place: int) -> str:
        """How LaTeX sets a column: numbers to the right, prose in lines of a fifth of the page."""
        if place >= self.words:
            return "r"
        return r"p{0.2\textwidth}" if max((len(row[place].text) for row in self.rows), default=0) > LINE else "l"


def write(tables: Sequence[Table], folder: Path) -> None:
    """Write each as `<name>.csv` and `<name>.tex` into a folder, where what an earlier page left goes."""
    folder.mkdir(exist_ok=True)
    for old in (*folder.glob("*.csv"), *folder.glob("*.tex")):
        old.unlink()
    for table in tables:
        write_atomic(folder / f"{table.file}.csv", table.csv)
        write_atomic(folder / f"{table.file}.tex", table.latex)


def words(*texts: object) -> list[Cell]:
    """Plain cells."""
    return [Cell(str(text)) for text in texts]


def places_of(values: np.ndarray) -> int:
    """As many decimals as give the largest of some values three digits."""
    known = np.abs(values[np.isfinite(values) & (values != 0)])
    return min(9, max(0, 2 - math.floor(math.log10(known.max())))) if known.size else 2


def interval(estimate: Sequence[float] | np.ndarray, places: int) -> str:
    """A value and its ends as "2.31 [2.02, 2.60]", or a dash where there is nothing."""
    value, low, high = estimate
    if not np.isfinite(value):
        return "–"
    return f"{value:z.{places}f} [{low:z.{places}f}, {high:z.{places}f}]"


def estimates(
    keys: Mapping[str, Sequence],
    models: Sequence[str],
    values: np.ndarray,
    names: Sequence[str] = ("value", "low", "high"),
) -> pd.DataFrame:
    """A row for each model and place k of `values` (model, 3, k), where `keys` says what each place is."""
    return pd.concat(
        [
            pd.DataFrame({**keys, "model": model, **dict(zip(names, one, strict=True))})
            for model, one in zip(models, values, strict=True)
        ],
        ignore_index=True,
    )


def data_uri(text: str, kind: str) -> str:
    """A text as a link that needs no file beside the page."""
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"


def escaped(text: str) -> str:
    """A text as LaTeX prints it."""
    return "".join(LATEX.get(sign, sign) for sign in re.sub(r"(?<!\w)-(?=\d)", "−", text))


def _lines(group: Sequence[Sequence[Cell]], grouped: bool) -> list[str]:
    def cell(row: int, column: int, one: Cell) -> str:
        if grouped and column == 0 and row > 0:
            return ""
        text = escaped(one.text)
        return f"\\textbf{{{text}}}" if one.mark == "best" else text

    return [_line(cell(i, j, one) for j, one in enumerate(row)) for i, row in enumerate(group)]


def _line(cells) -> str:
    line = " & ".join(cells) + r" \\"
    return "{}" + line if line.startswith(("[", "*")) else line  # after a row LaTeX would read its options there


def _with_rules(groups: list[str]):
    for place, group in enumerate(groups):
        if place:
            yield "\\addlinespace"
        yield group
