"""A small file takes little, whatever it claims; what is no file is refused unopened."""

import gzip
import io
import os
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from framework.data.ingest.bounded import Limits, content
from framework.data.ingest.tables.table_file import read_sheet
from framework.errors import UserError

SMALL = Limits(bytes=10_000, columns=20, cells=100)


def test_a_packed_table_is_read_with_the_digest_of_its_file(tmp_path):
    import hashlib

    file = tmp_path / "t.csv.gz"
    file.write_bytes(gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\n"))  # two members are one stream
    sheet = read_sheet(file)
    assert [dict(row.cells) for row in sheet.rows] == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert sheet.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("parts", [1, 3])
def test_a_packed_table_larger_than_the_bound_is_refused(tmp_path, parts):
    file = tmp_path / "t.csv.gz"
    whole = b"a,b\n" + b"1,2\n" * 5000
    each = len(whole) // parts
    file.write_bytes(b"".join(gzip.compress(whole[i : i + each]) for i in range(0, len(whole), each)))
    with pytest.raises(UserError, match=r"at most 10000 are read \(`limits.bytes` of the reader\)"):
        read_sheet(file, limits=SMALL)
    assert len(read_sheet(file).rows) == 5000


def test_a_packed_bomb_is_refused_without_unpacking_it(tmp_path):
    """Its last bytes say how long it is: 3 GB would take ten seconds to unpack."""
    file = tmp_path / "t.csv.gz"
    body = bytearray(gzip.compress(b"a,b\n1,2\n"))
    body[-4:] = (3_000_000_000).to_bytes(4, "little")
    file.write_bytes(body)
    with pytest.raises(UserError, match="holds 3000000000 bytes or more; at most 134217728"):
        read_sheet(file)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (",".join(f"c{i}" for i in range(21)) + "\n", "has 21 columns or more; at most 20"),
        ("a,b\n" + "1,2\n" * 60, "has 122 cells or more; at most 100"),
        ("a,b\r" + "1,2\r" * 60, "has 122 cells or more; at most 100"),
        ("a,b\n" + "1,2\n" * 6000, "holds 24004 bytes or more; at most 10000"),
    ],
)
def test_a_table_beyond_a_bound_is_refused(tmp_path, text, complaint):
    (tmp_path / "t.csv").write_bytes(text.encode())
    with pytest.raises(UserError, match=complaint):
        read_sheet(tmp_path / "t.csv", limits=SMALL)


def test_a_hundred_thousand_columns_are_compared_at_once(tmp_path):
    """Counting each name through the whole header took an hour."""
    (tmp_path / "t.csv").write_text(",".join(f"c{i}" for i in range(100_000)) + "\n")
    assert len(read_sheet(tmp_path / "t.csv").header) == 100_000
    (tmp_path / "t.csv").write_text(",".join(f"c{i}" for i in range(100_001)) + "\n")
    with pytest.raises(UserError, match="at most 100000"):
        read_sheet(tmp_path / "t.csv")


@pytest.mark.parametrize("changed", [{"cells": 100}, {"bytes": 500}])
def test_parquet_is_held_to_the_same_bounds(tmp_path, changed):
    table = pyarrow.table({"a": ["x" * 20] * 5000, "b": ["y"] * 5000})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet", use_dictionary=False)
    assert len(read_sheet(tmp_path / "t.parquet").rows) == 5000
    with pytest.raises(UserError, match="at most"):
        read_sheet(tmp_path / "t.parquet", limits=Limits(**changed))


def test_what_is_no_regular_file_is_refused_unopened(tmp_path):
    os.mkfifo(tmp_path / "t.csv")  # nobody writes to it: opening it would wait for ever
    for path, kind in ((tmp_path / "t.csv", "pipe"), (Path("/dev/zero"), "device"), (tmp_path, "folder")):
        with pytest.raises(UserError, match=f"it is a {kind}; expected a regular file"):
            content(path, 100)


def test_a_name_in_gz_that_holds_no_gzip_is_named(tmp_path):
    (tmp_path / "t.csv.gz").write_text("a,b\n1,2\n3,4\n5,6\n7,8\n")
    with pytest.raises(UserError, match="no gzip file, though its name ends in"):
        read_sheet(tmp_path / "t.csv.gz")


def test_limits_are_numbers_from_one_up():
    with pytest.raises(UserError, match="expected 1 up"):
        Limits(columns=0)


@pytest.mark.skipif(sys.platform != "linux", reason="reads peak memory as Linux keeps it")
def test_a_refusal_takes_little_memory(tmp_path):
    """A gigabyte of zeros in four members of a megabyte in all."""
    part = io.BytesIO()
    with gzip.GzipFile(fileobj=part, mode="wb", compresslevel=1) as stream:
        for _ in range(64):
            stream.write(bytes(2**20))
    (tmp_path / "t.csv.gz").write_bytes(part.getvalue() * 16)
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from framework.data.ingest.tables.table_file import read_sheet; from framework.errors import UserError\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "try: read_sheet(Path(sys.argv[1]))\n"
        "except UserError: print(peak() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "t.csv.gz")], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 200_000  # kB
