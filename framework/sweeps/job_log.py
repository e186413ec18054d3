"""What a sweep leaves beside its runs: a line for each job, whichever launcher ran it."""

import copy
import hashlib
import json
import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from framework.config.quoting import override, pasted
from framework.errors import InternalError, UserError
from framework.runs.run_value import Ran
from framework.sweeps.pool import Processes

JOBS = "jobs.jsonl"


@dataclass(frozen=True)
class How:
    """`gigabytes` is what the members of one program may take; more jobs go in waves. Where members had better take
    turns, or `workers` is set, so many of `processes` share them; 0 has them go side by side all the same.
    """

    gigabytes: float
    workers: int | None
    processes: Processes = field(default_factory=Processes)

    def __post_init__(self):
        if self.gigabytes <= 0:
            raise UserError(f"hydra.launcher.gigabytes is {self.gigabytes}; expected more than 0")
        if self.workers is not None and self.workers < 0:
            raise UserError(
                f"hydra.launcher.workers is {self.workers}; expected 0 for jobs side by side, so many processes, or "
                "null for what suits the model"
            )


class Known(Callback):
    """Has this process know of the sweep under way, also where all its jobs run in others."""

    def on_multirun_start(self, config: DictConfig, **more: Any) -> None:
        str(config.hydra.sweep.dir)  # the time in it is resolved once, here, for the copy and for all jobs
        HydraConfig.instance().set_config(copy.deepcopy(config))  # which makes it read-only


def folder_of(hydra: Any = None) -> Path | None:
    """Where the sweep under way keeps its lines; None outside a sweep."""
    if hydra is None:
        if not HydraConfig.initialized():
            return None
        hydra = HydraConfig.get()
    return Path(hydra.sweep.dir) if hydra.mode == RunMode.MULTIRUN else None


def summary(error: BaseException) -> str:
    """A fault of the program in one line."""
    if isinstance(error, InternalError):
        return str(error)
    return f"internal error: {' '.join(f'{type(error).__name__}: {error}'.split())}"


def trace(error: BaseException) -> str:
    """The traceback of a fault of the program, wherever it happened."""
    return error.trace if isinstance(error, InternalError) else "".join(traceback.format_exception(error))


def record(hydra: Any, value: object, reason: str | None) -> None:
    """Add a job's line: what it changed, what came of it, where it lies.

    A failure has a `reason` that the user can remove, or is a fault of the program, which keeps its traceback.
    """
    folder = folder_of(hydra)
    if folder is None:
        return
    internal = value if isinstance(value, Exception) and reason is None else None
    line = {
        "job": hydra.job.num,
        "overrides": list(hydra.overrides.task),
        "command": ["python", "-m", f"experiments.{hydra.job.config_name}", *_folders(hydra)],
        "value": float(value) if isinstance(value, float) else None,
        "run": str(value.folder) if isinstance(value, Ran) else None,
        "failed": summary(internal) if internal else reason,
        "trace": trace(internal) if internal else None,
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / JOBS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)  # jobs may end side by side
    try:
        os.write(file, (json.dumps(line | {"digest": _digest(line)}) + "\n").encode())
    finally:
        os.close(file)


def _folders(hydra: Any) -> list[str]:
    """The options that name the user's own folder of configurations."""
    told = [one.path for one in hydra.runtime.config_sources if one.provider == "command-line"]
    return [word for folder in told for word in ("--config-dir", folder)]


def jobs(folder: Path) -> list[Mapping]:
    """Every job's last line, in the order of the jobs; none before the first one has ended.

    Raises UserError where a line is not what was written.
    """
    file = folder / JOBS
    lines = file.read_bytes().splitlines() if file.exists() else []
    rows = [_line(file, number, line) for number, line in enumerate(lines, 1)]
    return [found for _, found in sorted({row["job"]: row for row in rows}.items())]


def _digest(row: Mapping) -> str:
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()


def _line(file: Path, number: int, line: bytes) -> Mapping:
    """A job's line. Raises UserError unless it has the digest of its content."""
    try:
        row = json.loads(line)
        if row.pop("digest") == _digest(row):
            return row
    except (ValueError, LookupError, TypeError, AttributeError):
        pass  # no line of ours
    raise UserError(
        f"line {number} of {file} is not what was written, or an earlier version wrote it; give the command of the "
        "sweep again"
    )


def conclude(folder: Path) -> bool:
    """Say how many jobs of how many finished and which was the best; whether all did.

    Tracebacks of the program's own faults come once each, however many jobs met them.
    """
    rows = jobs(folder)
    done = [row for row in rows if row["failed"] is None]
    for row in rows:
        if row["failed"] is not None:
            print(f"job {row['job']} ({pasted(row['overrides'])}) failed: {row['failed']}", file=sys.stderr)
    for each in dict.fromkeys(row["trace"] for row in rows if row.get("trace")):
        print(each, end="", file=sys.stderr)
    valued = [row for row in done if row["value"] is not None and row["value"] == row["value"]]
    best = min(valued, key=lambda row: row["value"], default=None)
    shown = "" if best is None else f"; best {best['value']:.4g}: {pasted(best['overrides'])}"
    page = pasted(["python", "-m", "experiments.report", override("sweep", str(folder))])
    print(f"sweep: {len(done)} of {len(rows)} jobs finished{shown}; {page}")
    return len(done) == len(rows)
