"""Tables as they lie on disk: CSV, TSV or Parquet as rows of text, each with the place it stands at."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.util import find_spec
from pathlib import Path

from framework.data.ingest.bounded import UNPACKABLE, Limits, content
from framework.data.ingest.spec import known
from framework.errors import UserError

MISSING = ("NA", "N/A", "n/a", "NaN", "nan")
SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
PACKAGE = "package:"


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


def locate(path: str, key: str = "data.path") -> Path:
    """The file or folder of a path, or of `package:<name>/<file>` inside an installed package (never imported)."""
    if not path.startswith(PACKAGE):
        found = Path(path).expanduser()
        if not found.exists():
            raise UserError(f"nothing at {path}; expected a file or folder: set {key} to where the data lie")
        return found
    name, _, file = path.removeprefix(PACKAGE).partition("/")
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"{path}: the package {name!r} is not installed; "
            f"`pip install 'prognax[demo]'` brings it, or set {key} to your own copy of {Path(file).name}"
        )
    found = Path(spec.submodule_search_locations[0]) / file
    if not found.exists():
        raise UserError(f"{path}: the installed package {name!r} has no file {file}; set {key} to your own copy")
    return found


def read_sheet(path: Path, missing: Sequence[str] = MISSING, limits: Limits | None = None) -> Sheet:
    """Read a table; an empty cell, or one whose text is in `missing`, is None. Raises UserError for a broken line."""
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
        header, lines = _delimited(text, SEPARATORS[suffix], path, limits)
    else:
        raise UserError(f"{path} ends in {suffix!r}; expected .csv, .tsv, .txt (tabs) or .parquet")
    twice = sorted(name for name, count in Counter(header).items() if count > 1)
    if twice:
        raise UserError(f"{path} has the column {twice[0]!r} more than once; give each its own name")
    rows = tuple(
        Row(
            f"{path.name} line {line}",
            {k: None if not v or v in missing else v for k, v in zip(header, cells, strict=True)},
        )
        for line, cells in lines
    )
    return Sheet(path, tuple(header), rows, sha256)


def _delimited(
    content: bytes, separator: str, path: Path, limits: Limits
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=separator, strict=True)
        header, lines = next(reader, []), []
        limits.hold(len(header), max(content.count(b"\n"), content.count(b"\r")), path)
        for cells in reader:
            if not cells:
                continue  # an empty line holds nothing
            if len(cells) != len(header):
                raise UserError(
                    f"{path} line {reader.line_num} has {len(cells)} cells; expected {len(header)}, as in its header"
                )
            lines.append((reader.line_num, [cell.strip() for cell in cells]))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no UTF-8 table ({error}); export it again as UTF-8 CSV or TSV") from None
    return [name.strip() for name in header], lines


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
        return str(int(cell))
    return cell.isoformat() if isinstance(cell, date) else str(cell)  # a datetime is a date, too
