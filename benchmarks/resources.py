"""Cost of refusing small files that claim to be large.

    python -m benchmarks.resources [--cases ...]

Each attack is a file or a folder given to a command in a process of its own: compressed scans and tables that expand,
headers that claim implausibly many voxels, a line of a million columns, YAML with exponentially nested aliases, a pipe
without a writer, an endless device. Measured are the seconds and the peak resident memory until the command has ended,
minus those of the same command on a small file that is also refused: a table without a column, a truncated scan (the
shortest time, and the median peak, of three). The bounds are 1 s and 200 MB above it. Each attack must end in one line
that names the fault. `ratio` is the bound over the worst measurement; above 1 all attacks stay within both.
"""

import argparse
import gzip
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import nibabel
import numpy as np
import pyarrow
import pyarrow.parquet

from benchmarks.measure import RESULTS, commit, machine

SECONDS, BYTES = 1.0, 200e6
TIMEOUT = 120.0  # s; a command that takes longer counts as endless
REPEATS = 3
FORK = multiprocessing.get_context("fork")
TABLE = "subject,time,score\n" + "".join(f"s{i},{t},{i + t}\n" for i in range(8) for t in range(3))
COLUMNS = ("data=table", "data.path={folder}/visits.csv", "data.store={folder}/c", "data.targets=[score]")
COLUMNS = (*COLUMNS, "+data.reader.variables.score={roles: [input, target]}")
SCANS = ("data=nifti", "data.path={folder}", "data.store={folder}/c", "+data.reader.visits.variables.score={}")


@dataclass(frozen=True)
class Case:
    """An attack: its files, the overrides of the command, the small file to compare with, and a word of the refusal."""

    lay: Callable[[Path], object]
    overrides: tuple[str, ...]
    like: str
    complaint: str


def packed(file: Path, size: int, head: bytes = b"") -> None:
    """Write a gzip file that unpacks to a head and `size` zeros."""
    with gzip.open(file, "wb", compresslevel=9) as stream:
        stream.write(head)
        for _ in range(size // 2**20):
            stream.write(bytes(2**20))


def table(folder: Path) -> None:
    """Write a valid table."""
    (folder / "visits.csv").write_text(TABLE)


def scans(folder: Path) -> None:
    """Write a valid table of visits and its scans."""
    lines = ["subject,visit,time,score,T1w"]
    image = nibabel.Nifti1Image(np.random.default_rng(0).normal(100, 9, (32, 32, 32)).astype(np.float32), np.eye(4) * 6)
    for i in range(4):
        nibabel.save(image, folder / f"s{i}.nii.gz")
        lines.append(f"s{i},v0,0,{i},s{i}.nii.gz")
    (folder / "visits.csv").write_text("\n".join(lines) + "\n")


def scan(folder: Path, shape: tuple[int, int, int], held: int) -> None:
    """Write valid scans except the first, whose header claims a shape and whose file unpacks to `held` bytes."""
    scans(folder)
    header = nibabel.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.float32)
    header.set_sform(np.eye(4), 1)
    header.set_qform(np.eye(4), 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    packed(folder / "s0.nii.gz", held, header.binaryblock + bytes(4))


def columns(folder: Path) -> None:
    """Write a table with a line of a million columns."""
    (folder / "visits.csv").write_text(",".join(f"column_{i}" for i in range(1_000_000)) + "\n")


def parquet(folder: Path) -> None:
    """Write a table of half a gigabyte that Parquet compresses well."""
    writer = None
    for _ in range(16):
        part = pyarrow.table({"subject": ["s"] * 2**20, "time": np.zeros(2**20), "score": ["x" * 24] * 2**20})
        writer = writer or pyarrow.parquet.ParquetWriter(folder / "visits.parquet", part.schema)
        writer.write_table(part)
    assert writer is not None
    writer.close()


def bomb(folder: Path) -> None:
    """Write a configuration whose aliases expand to 9^12 items."""
    table(folder)
    (folder / "data").mkdir()
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    (folder / "data" / "bomb.yaml").write_text("\n".join(lines) + "\n")


def linked(folder: Path, *names: str) -> None:
    """A folder of scans, of which these files are links to a device."""
    scans(folder)
    for name in names:
        (folder / name).unlink()
        (folder / name).symlink_to("/dev/zero")


def at(file: str, overrides: tuple[str, ...]) -> tuple[str, ...]:
    """Return the overrides for a table at another path."""
    return tuple(one.replace("{folder}/visits.csv", file) for one in overrides)


CASES: Mapping[str, Case] = {
    "packed_scan": Case(lambda f: scan(f, (32, 32, 32), 2**32), SCANS, "scans", "bytes"),
    "voxels_claimed": Case(lambda f: scan(f, (1200, 1200, 1200), 2**20), SCANS, "scans", ""),
    "voxels_packed": Case(lambda f: scan(f, (1200, 1200, 1200), 1728 * 10**6 * 4), SCANS, "scans", "voxels"),
    "packed_table": Case(
        lambda f: packed(f / "visits.csv.gz", 2**32, TABLE.encode()),
        at("{folder}/visits.csv.gz", COLUMNS),
        "table",
        "limits.bytes",
    ),
    "packed_lines": Case(
        lambda f: packed(f / "visits.csv.gz", 2**27, TABLE.encode() + b"a,1,2\n" * 2**24),
        at("{folder}/visits.csv.gz", COLUMNS),
        "table",
        "limits.bytes",
    ),
    "columns": Case(columns, COLUMNS, "table", "limits.columns"),
    "parquet": Case(parquet, at("{folder}/visits.parquet", COLUMNS), "table", "limits.cells"),
    "yaml_aliases": Case(bomb, ("--config-dir", "{folder}", "data=bomb"), "table", "alias"),
    "pipe": Case(lambda f: os.mkfifo(f / "visits.csv"), COLUMNS, "table", "pipe"),
    "device": Case(lambda f: None, at("/dev/zero", COLUMNS), "table", "device"),
    "pipe_as_scan": Case(
        lambda f: (scans(f), (f / "s0.nii.gz").unlink(), os.mkfifo(f / "s0.nii.gz")), SCANS, "scans", "pipe"
    ),
    "device_as_scan": Case(lambda f: linked(f, "s0.nii.gz"), SCANS, "scans", "device"),
    "device_excluded": Case(
        lambda f: linked(f, *(f"s{i}.nii.gz" for i in range(4))),
        (*SCANS, "data.reader.on_error=exclude"),
        "scans",
        "device",
    ),
}
SMALL: Mapping[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "table": (lambda f: (f / "visits.csv").write_text(TABLE.replace("score", "other")), COLUMNS),
    "scans": (lambda f: _cut(f), SCANS),
}


def _cut(folder: Path) -> None:
    scans(folder)
    whole = (folder / "s0.nii.gz").read_bytes()
    (folder / "s0.nii.gz").write_bytes(whole[: len(whole) // 2])


def cost(lay: Callable[[Path], object], overrides: tuple[str, ...]) -> dict:
    """Measure seconds and peak bytes of an ingest; return them with its exit status and standard error."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        laying = FORK.Process(target=lay, args=(folder,))  # a forked child inherits the peak memory of its parent
        laying.start()
        laying.join()
        size = sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
        command = [
            sys.executable,
            "-m",
            "experiments.ingest",
            *(one.format(folder=folder) for one in map(_quoted, overrides)),
        ]
        with (folder / "said").open("w+") as said:
            start = time.monotonic()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
            status, ended = 0, False
            while not ended and time.monotonic() - start < TIMEOUT:
                pid, status, used = os.wait4(process.pid, os.WNOHANG)
                ended = pid != 0
                time.sleep(0.005)
            if not ended:
                process.kill()
                _, status, used = os.wait4(process.pid, 0)
            seconds = time.monotonic() - start
            said.seek(0)
            lines = said.read().strip().splitlines()
    return {
        "bytes": size,
        "seconds": seconds,
        "peak_bytes": used.ru_maxrss * 1024,
        "ended": ended,
        "status": os.waitstatus_to_exitcode(status),
        "said": lines,
    }


def _quoted(override: str) -> str:
    """Escape the braces of an override except those of the folder."""
    return override.replace("{", "{{").replace("}", "}}").replace("{{folder}}", "{folder}")


def measure(case: Case, small: Mapping[str, float]) -> dict:
    """Measure an attack, compared with a small file."""
    runs = [cost(case.lay, case.overrides) for _ in range(REPEATS)]
    seconds = min(run["seconds"] for run in runs) - small["seconds"]  # other load can only add to it
    peak = median(run["peak_bytes"] for run in runs) - small["peak_bytes"]
    said = runs[0]["said"]
    refused = all(run["ended"] and run["status"] == 1 and len(run["said"]) == 1 for run in runs)
    refused = refused and case.complaint in said[0]
    return {
        "file_bytes": runs[0]["bytes"],
        "refused": refused,
        "said": (said[-1] if said else "nothing")[-240:],
        "seconds_beyond": round(seconds, 3),
        "bytes_beyond": round(peak),
        "ratio": round(min(SECONDS / max(seconds, 1e-3), BYTES / max(peak, 1.0), 1e3), 2) if refused else 0.0,
    }


def main() -> None:
    """Measure each attack and write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resources", description="Cost of refusing large files.")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    names = parser.parse_args().cases
    small = {}
    for name, (lay, overrides) in SMALL.items():
        runs = [cost(lay, overrides) for _ in range(REPEATS)]
        if any(run["status"] != 1 or len(run["said"]) != 1 for run in runs):
            raise RuntimeError(f"{name}, a small file, was not refused in one line: {runs[0]['said']}")
        small[name] = {
            "seconds": min(run["seconds"] for run in runs),
            "peak_bytes": median(run["peak_bytes"] for run in runs),
        }
        print(f"{name:16} {small[name]['seconds']:.2f} s, {small[name]['peak_bytes'] / 1e6:.0f} MB", flush=True)
    cases = {}
    for name in names:
        cases[name] = case = measure(CASES[name], small[CASES[name].like])
        beyond = f"{case['seconds_beyond']:+.2f} s, {case['bytes_beyond'] / 1e6:+.0f} MB"
        print(f"{name:16} {beyond}, refused: {case['refused']}: {case['said'][-120:]}", flush=True)
    result = {
        "benchmark": "resources",
        "device": "cpu",
        "ratio": min(case["ratio"] for case in cases.values()),
        "small": small,
        "cases": cases,
        "machine": machine(),
        "commit": commit(),
    }
    if set(names) == set(CASES):
        (RESULTS / "resources-cpu.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
