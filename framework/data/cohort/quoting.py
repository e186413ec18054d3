"""Text in the tables that are written: what a spreadsheet would take for a formula is quoted, and read back as it was.

A text that begins with =, +, -, @ (after spaces, or in their wide forms), a tab or a line's end, and is not a number,
gets an apostrophe in front, as a spreadsheet itself writes it; so does one that begins with such an apostrophe already.
Numbers stay numbers, negative ones too.
"""

import re
from typing import Any

import pandas as pd

FORMULA = re.compile(r"'*(\s*[=+\-@＝＋－＠]|[\t\r\n])")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def quoted(cell: Any) -> Any:
    """A cell as it is written; what is no text is left alone."""
    return f"'{cell}" if isinstance(cell, str) and _is_formula(cell) else cell


def unquoted(cell: Any) -> Any:
    """A cell as it was before it was written."""
    return cell[1:] if isinstance(cell, str) and cell.startswith("'") and _is_formula(cell[1:]) else cell


def as_csv(table: pd.DataFrame, **options: Any) -> str:
    """A table as CSV, its texts and the names of its columns quoted; `options` are those of pandas."""
    made = table.rename(columns=quoted)
    for place, kind in enumerate(made.dtypes):
        if not pd.api.types.is_numeric_dtype(kind):
            made.isetitem(place, made.iloc[:, place].astype(object).map(quoted))
    return made.to_csv(index=False, **options)


def as_read(table: pd.DataFrame) -> pd.DataFrame:
    """A table that was read as text, its cells and the names of its columns as they were before they were written."""
    return table.rename(columns=unquoted).map(unquoted)


def _is_formula(text: str) -> bool:
    return FORMULA.match(text) is not None and NUMBER.fullmatch(text) is None
