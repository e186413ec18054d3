"""Log of a sweep: one line for each job, whichever launcher ran it."""

import copy
import hashlib
import json
import logging
import os
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from framework.config.quoting import join_command, quote_override
from framework.errors import InternalError, UserError
from framework.runs.run_value import RunValue
from framework.sweeps.pool import ProcessPool

logger = logging.getLogger(__name__)

JOBS = "jobs.jsonl"


@dataclass(frozen=True)
class LaunchOptions:
    """Options of a launcher: `max_memory_gb` limits the members of one program, further jobs go in waves.

    Where members train as fast one after another, or `workers` is set, so many processes of `pool` share the jobs; with
    0 they always train side by side.
    """

    max_memory_gb: float
    workers: int | None
    pool: ProcessPool = field(default_factory=ProcessPool)

    def __post_init__(self):
        if self.max_memory_gb <= 0:
            raise UserError(f"hydra.launcher.max_memory_gb is {self.max_memory_gb}; expected more than 0")
        if self.workers is not None and self.workers < 0:
            raise UserError(
                f"hydra.launcher.workers is {self.workers}; expected 0 for jobs side by side, a number of processes, "
                "or null to let the model choose"
            )


class SweepContext(Callback):
    """Callback that registers the sweep in this process, also where all its jobs run in other processes."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        str(config.hydra.sweep.dir)  # the time in it is resolved once, here, for the copy and for all jobs
        HydraConfig.instance().set_config(copy.deepcopy(config))  # which makes it read-only


def sweep_folder(hydra: Any = None) -> Path | None:
    """Return the folder of the current sweep; None outside a sweep."""
    if hydra is None:
        if not HydraConfig.initialized():
            return None
        hydra = HydraConfig.get()
    return Path(hydra.sweep.dir) if hydra.mode == RunMode.MULTIRUN else None


def summarize_error(error: BaseException) -> str:
    """Return a fault of the program in one line."""
    if isinstance(error, InternalError):
        return str(error)
    return f"internal error: {' '.join(f'{type(error).__name__}: {error}'.split())}"


def format_traceback(error: BaseException) -> str:
    """Return the traceback of a fault of the program, also of another process."""
    return error.trace if isinstance(error, InternalError) else "".join(traceback.format_exception(error))


def log_job(hydra: Any, value: object, reason: str | None) -> None:
    """Append the line of a job: its overrides, its value or error, its folder.

    A failure has a `reason` that the user can fix, or is a fault of the program, logged with its traceback.
    """
    folder = sweep_folder(hydra)
    if folder is None:
        return
    internal = value if isinstance(value, Exception) and reason is None else None
    line = {
        "job": hydra.job.num,
        "overrides": list(hydra.overrides.task),
        "command": ["python", "-m", f"experiments.{hydra.job.config_name}", *_config_dir_options(hydra)],
        "value": float(value) if isinstance(value, float) else None,
        "run": str(value.folder) if isinstance(value, RunValue) else None,
        "failed": summarize_error(internal) if internal else reason,
        "trace": format_traceback(internal) if internal else None,
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / JOBS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)  # jobs may end at the same time
    try:
        os.write(file, (json.dumps(line | {"digest": _row_digest(line)}) + "\n").encode())
    finally:
        os.close(file)


def _config_dir_options(hydra: Any) -> list[str]:
    """Return the options that name the user's own folder of configurations."""
    folders = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    return [word for folder in folders for word in ("--config-dir", folder)]


def read_jobs(folder: Path) -> list[Mapping]:
    """Read the last line of every job, in the order of the jobs; none before the first job has ended.

    Raise UserError where a line is not as it was written.
    """
    file = folder / JOBS
    lines = file.read_bytes().splitlines() if file.exists() else []
    rows = [_read_line(file, number, line) for number, line in enumerate(lines, 1)]
    return [row for _, row in sorted({row["job"]: row for row in rows}.items())]


def _row_digest(row: Mapping) -> str:
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()


def _read_line(file: Path, number: int, line: bytes) -> Mapping:
    """Parse the line of a job. Raise UserError unless it has the digest of its content."""
    try:
        row = json.loads(line)
        if row.pop("digest") == _row_digest(row):
            return row
    except (ValueError, LookupError, TypeError, AttributeError):
        pass  # not a line of a log
    raise UserError(
        f"line {number} of {file} is not what was written, or an earlier version wrote it; give the command of the "
        "sweep again"
    )


def conclude(folder: Path) -> bool:
    """Print how many jobs finished and the best one; return whether all finished.

    The traceback of a fault of the program is printed once, however many jobs had it.
    """
    rows = read_jobs(folder)
    done = [row for row in rows if row["failed"] is None]
    for row in rows:
        if row["failed"] is not None:
            logger.error("job %d (%s) failed: %s", row["job"], join_command(row["overrides"]), row["failed"])
    for traceback_text in dict.fromkeys(row["trace"] for row in rows if row.get("trace")):
        logger.error("traceback of the internal error\n%s", traceback_text.rstrip())
    finite = [row for row in done if row["value"] is not None and row["value"] == row["value"]]
    best = min(finite, key=lambda row: row["value"], default=None)
    shown = "" if best is None else f"; best {best['value']:.4g}: {join_command(best['overrides'])}"
    page = join_command(["python", "-m", "experiments.report", quote_override("sweep", str(folder))])
    print(f"sweep: {len(done)} of {len(rows)} jobs finished{shown}; {page}")
    return len(done) == len(rows)
