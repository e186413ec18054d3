"""Files opened within bounds: devices and pipes are refused unread, and a small file cannot unpack to a large one.

Deflate packs at most 1032 to 1, and a gzip file ends with the length of its last member; both say at once, before
anything is unpacked, what a stream cannot hold.
"""

import gzip
import hashlib
import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from framework.errors import UserError
from framework.files import size_of

CHUNK = 2**20
DEFLATE = 1032  # the most that deflate packs into a byte
GZIP = b"\x1f\x8b"
UNPACKABLE = (OSError, EOFError, zlib.error)


@dataclass(frozen=True)
class Limits:
    """The largest table that is read: `bytes` once unpacked, `columns`, and `cells` in all."""

    bytes: int = 2**27
    columns: int = 100_000
    cells: int = 2**25

    def __post_init__(self):
        if min(self.bytes, self.columns, self.cells) < 1:
            raise UserError(f"limits are {self.bytes} bytes, {self.columns} columns, {self.cells} cells; expected 1 up")

    def hold(self, columns: int, rows: int, path: Path) -> None:
        """Raise UserError where a table has more columns or cells than are read."""
        for key, number in (("columns", columns), ("cells", columns * rows)):
            if number > getattr(self, key):
                raise UserError(
                    f"{path} has {number} {key} or more; at most {getattr(self, key)} are read: "
                    f"keep those that are needed, or raise `limits.{key}` of the reader"
                )


class Hashed(io.RawIOBase):
    """A file read once from its beginning, with the SHA-256 of what was read."""

    def __init__(self, file: BinaryIO):
        self._file, self._sum = file, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        part = self._file.read(len(buffer))
        self._sum.update(part)
        buffer[: len(part)] = part
        return len(part)

    def sha256(self) -> str:
        """The digest of the whole file: what is left of it is read."""
        while self.read(CHUNK):
            pass
        return self._sum.hexdigest()


@contextmanager
def opened(path: Path, zipped: bool) -> Iterator[tuple[io.BufferedIOBase, Hashed]]:
    """A regular file as a stream of its (unpacked) content, and its digest; a gzip stream checks itself at its end."""
    size_of(path)
    with path.open("rb") as file:
        hashed = Hashed(file)
        buffered = io.BufferedReader(hashed, CHUNK)
        yield (gzip.GzipFile(fileobj=buffered) if zipped else buffered), hashed


def packed(path: Path) -> tuple[int, int]:
    """The least that a gzip file's last member holds, and the most that all members can, in bytes."""
    size = size_of(path)
    with path.open("rb") as file:
        if size < 18 or file.read(2) != GZIP:
            raise UserError("it is no gzip file, though its name ends in .gz; rename it or save it again")
        file.seek(-4, io.SEEK_END)
        return struct.unpack("<I", file.read(4))[0], DEFLATE * size


def content(path: Path, most: int) -> tuple[bytes, str]:
    """A whole file, unpacked where its name ends in .gz, and its SHA-256; more than `most` bytes are a UserError."""
    zipped = path.suffix.lower() == ".gz"
    least = packed(path)[0] if zipped else size_of(path)
    parts, length = [], 0
    if least <= most:
        with opened(path, zipped) as (stream, hashed):
            while part := stream.read(CHUNK):
                length += len(part)
                if length > most:
                    break
                parts.append(part)
            else:
                return b"".join(parts), hashed.sha256()
    raise UserError(
        f"it holds {max(least, length)} bytes or more; at most {most} are read (`limits.bytes` of the reader)"
    )
