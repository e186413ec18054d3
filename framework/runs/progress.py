"""Progress of training and of sweeps on the terminal, and the learning curves on disk."""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from framework.errors import UserError
from framework.files import name_file_in_errors, write_atomic
from framework.logs import shows_progress_bars

logger = logging.getLogger(__name__)

LINE_INTERVAL = 10.0  # seconds between plain lines where there is no terminal


class TrainingProgress:
    """A bar with its ETA on a terminal, plain lines elsewhere; each row also goes to `metrics.jsonl`.

    Rows without a step only count the fits `done`. Where nothing was printed for LINE_INTERVAL seconds, because a
    program compiles or a fit takes long, a line reports the time taken and the time left. `on_news(line)`, where given,
    receives the progress instead of the terminal.
    """

    def __init__(self, model: str, file: Path, on_news: Callable[[str], None] | None = None):
        self._model, self._path, self._on_news = model, file, on_news
        _keep_lines(file, lambda row: True)
        self._file = file.open("a")
        self._fresh = True
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} {task.fields[unit]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
            console=Console(file=sys.stderr),
            disable=on_news is not None or not shows_progress_bars(),
            transient=True,
        )
        self._task = self._bar.add_task(model, total=None, loss="", unit="steps")
        self._pace = Pace(time.monotonic())
        self._last = time.monotonic()
        self._news = model
        self._over = threading.Event()

    def __call__(self, row: dict) -> None:
        total = row.pop("of")
        if "step" not in row:
            self._pace.update(row["done"], total, time.monotonic())
            self._bar.update(self._task, completed=row["done"], total=total, unit="fits")
            return self._publish(f"{self._model}: {row['done']} of {total} fits", with_time=True)
        if self._fresh:
            self._rewind(row["step"], row["member"])
        with name_file_in_errors(self._path):
            self._file.write(json.dumps({"model": self._model, **row}) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())  # before the checkpoint that relies on it, even if the power fails
        self._pace.update(row["step"], total, time.monotonic())
        loss = ", ".join(f"{name} {row[name]:.3f}" for name in ("train", "validation") if row[name] == row[name])
        self._bar.update(self._task, completed=row["step"], total=total, loss=loss, unit="steps")
        return self._publish(f"{self._model}: step {row['step']} of at most {total}, {loss}")

    def repeat_news(self) -> None:
        """Repeat the last news with the time taken, if nothing was printed for long."""
        self._publish(self._news, with_time=True)

    def _publish(self, news: str, with_time: bool = False) -> None:
        """Pass the news on, with the time taken and the time left if so chosen."""
        duration = f", {self._pace.describe(time.monotonic())}" if with_time else ""
        self._news, now = news, time.monotonic()
        due = now - self._last > LINE_INTERVAL
        if self._on_news is not None and (due or not with_time):
            self._last = now
            self._on_news(f"{news}{duration}")
        elif self._on_news is None and self._bar.disable:
            self._last = now if due else self._last
            logger.log(logging.INFO if due else logging.DEBUG, "%s%s", news, duration)

    def _repeat(self) -> None:
        while not self._over.wait(max(LINE_INTERVAL, 1.0)):
            self.repeat_news()

    def _rewind(self, step: int, member: int) -> None:
        """Drop the rows that an interrupted run wrote after the checkpoint from which this one resumes; the members of
        finished waves stay.
        """
        self._file.close()
        _keep_lines(self._path, lambda row: row["model"] != self._model or row["step"] < step or row["member"] < member)
        self._file = self._path.open("a")
        self._fresh = False

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        self._beats = threading.Thread(target=self._repeat, daemon=True)
        self._beats.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._beats.join()
        self._bar.stop()
        self._file.close()


class Pace:
    """Pace of a task, from which the time left is estimated."""

    def __init__(self, begun: float):
        self._begun, self._first = begun, (begun, 0)
        self._reached: tuple[float, int, int] | None = None

    def update(self, done: int, of: int, now: float) -> None:
        """Record that `done` of all are done; work that a resumed run found done took none of its time."""
        if self._reached is None and done > 1:
            self._first = (now, done)
        self._reached = (now, done, of)

    def describe(self, now: float) -> str:
        """Return the time taken and, from the second update on, the time left, in words."""
        taken = f"{_duration(now - self._begun)} so far"
        if self._reached is None:
            return taken
        at, done, of = self._reached
        since, before = self._first
        if done <= before or done >= of:
            return taken
        left = (at - since) / (done - before) * (of - done) - (now - at)
        return f"{taken}, about {_duration(max(left, 1.0))} to go"


class SweepProgress:
    """One bar for a sweep: jobs done, failed, the best value so far, and the progress of running jobs.

    Plain lines where there is no terminal.
    """

    def __init__(self, jobs: int):
        self._jobs, self._done, self._failed, self._best, self._running = jobs, 0, 0, float("inf"), ""
        self._bar = Progress(
            TextColumn("sweep"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} jobs"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=Console(file=sys.stderr),
            disable=not shows_progress_bars(),
            transient=True,
        )
        self._task = self._bar.add_task("", total=jobs)
        self._last = time.monotonic()

    def __call__(self, value: float | Exception) -> None:
        """Record that a job ended with this value, or failed."""
        self._done += 1
        if isinstance(value, Exception):
            self._failed += 1
        elif value < self._best:
            self._best = value
        self._show()

    def show_running(self, news: str) -> None:
        """Show the progress of the running jobs."""
        self._running = news
        self._show()

    def _show(self) -> None:
        best = f", best {self._best:.4g}" if self._best < float("inf") else ""
        state = "; ".join(filter(None, (f"{self._failed} failed{best}", self._running)))
        self._bar.update(self._task, completed=self._done, description=state)
        if self._bar.disable and time.monotonic() - self._last > LINE_INTERVAL:
            self._last = time.monotonic()
            logger.info("sweep: %d of %d jobs, %s", self._done, self._jobs, state)

    def __enter__(self) -> "SweepProgress":
        self._bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()


def _duration(seconds: float) -> str:
    """Return a duration in words."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _keep_lines(file: Path, wanted: Callable[[dict], bool]) -> None:
    """Rewrite a file with its wanted rows only, without a line that was cut short when a run was killed."""
    try:
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        remaining = [line for line in lines if line.endswith("\n") and wanted(json.loads(line))]
    except (ValueError, LookupError, TypeError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(
            f"{file} is damaged ({reason}); delete {file.parent}, and give the same command again"
        ) from error
    if remaining != lines:
        write_atomic(file, "".join(remaining))
