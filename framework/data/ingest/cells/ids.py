"""Ids of subjects and visits: equivalent spellings are one id, and spellings that could be are refused."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace

from framework.data.ingest.cells.numbers import number
from framework.data.ingest.tables.table_file import Row
from framework.errors import UserError

ROUNDED = re.compile(r"[+-]?\d(?:[.,]\d+)?E\+\d{2,}", re.IGNORECASE | re.ASCII)  # as spreadsheets write long numbers
UNSEEN = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))  # characters of no width


def settled(rows: Sequence[Row], column: str, what: str) -> list[Row]:
    """The rows with each id of a column in one spelling: in Unicode's composed form, without unseen characters.

    Where all ids are numbers and are written as 7.0, they are 7. Raises UserError for one that a spreadsheet rounded.
    """
    ids = {cell: _plain(cell) for row in rows if (cell := row.cells[column]) is not None}
    for row in rows:
        if ROUNDED.fullmatch(ids.get(row.cells[column] or "", "")):
            raise UserError(
                f"{row.where}: the {what}'s id (column {column!r}) was rounded by a spreadsheet to a number such as "
                "1.00202E+11, so that several may look alike; export the table again with the column as text"
            )
    whole = all(re.fullmatch(r"\d+\.0+", id, re.ASCII) for id in ids.values() if "." in id and number(id) is not None)
    if whole:
        ids = {cell: re.sub(r"^(\d+)\.0+$", r"\1", id, flags=re.ASCII) for cell, id in ids.items()}
    return [replace(row, cells={**row.cells, column: ids.get(row.cells[column] or "") or None}) for row in rows]


def distinct(rows: Sequence[Row], column: str) -> None:
    """Raise UserError where ids of subjects differ in case, leading zeros or compatible characters alone."""
    first: dict[str, Row] = {}
    for row in rows:
        id = row.cells[column]
        if id is None:
            continue
        key = re.sub(r"(?<!\d)0+(?=\d)", "", unicodedata.normalize("NFKC", id).casefold(), flags=re.ASCII)
        other = first.setdefault(key, row)
        if other.cells[column] != id:
            raise UserError(
                f"subjects {other.cells[column]!r} ({other.where}) and {id!r} ({row.where}) differ in case, leading "
                "zeros or forms of characters alone: write one person's id alike; if they are two, add "
                "data.reader.exact_ids=true"
            )


def _plain(id: str) -> str:
    return " ".join(unicodedata.normalize("NFC", id.translate(UNSEEN)).split())
