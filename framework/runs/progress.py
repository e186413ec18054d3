"""What a person sees while models train, and what is kept of it."""

import json
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

EVERY = 10.0  # seconds between plain lines where there is no terminal


class Training:
    """A bar with its ETA on a terminal, plain lines elsewhere; each row also goes to `metrics.jsonl`.

    Rows without a step only say how many fits are `done`. Where nothing else is said for EVERY seconds, because a
    program compiles or a fit takes long, a line says for how long that has been and how long it may still take. Where
    `said` is given it hears instead how far things are.
    """

    def __init__(self, model: str, file: Path, said: Callable[[str], None] | None = None):
        self._model, self._path, self._tell = model, file, said
        _whole_lines(file, lambda row: True)
        self._file = file.open("a")
        self._fresh = True
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} {task.fields[unit]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
            console=Console(file=sys.stderr),
            disable=said is not None or not sys.stderr.isatty(),
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
            self._pace.reached(row["done"], total, time.monotonic())
            self._bar.update(self._task, completed=row["done"], total=total, unit="fits")
            return self._hear(f"{self._model}: {row['done']} of {total} fits", more=True)
        if self._fresh:
            self._rewind(row["step"], row["member"])
        with name_file_in_errors(self._path):
            self._file.write(json.dumps({"model": self._model, **row}) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())  # before the checkpoint that counts on it, even where the power fails
        self._pace.reached(row["step"], total, time.monotonic())
        loss = ", ".join(f"{name} {row[name]:.3f}" for name in ("train", "validation") if row[name] == row[name])
        self._bar.update(self._task, completed=row["step"], total=total, loss=loss, unit="steps")
        return self._hear(f"{self._model}: step {row['step']} of at most {total}, {loss}")

    def beat(self) -> None:
        """Say how it goes, if nothing else was said for long."""
        self._hear(self._news, more=True)

    def _hear(self, news: str, more: bool = False) -> None:
        """Pass the news on, `more` with the time taken and the time left."""
        beside = f", {self._pace.words(time.monotonic())}" if more else ""
        self._news, now = news, time.monotonic()
        if now - self._last <= EVERY and (self._tell is None or more):
            return
        if self._tell is not None:
            self._last = now
            self._tell(f"{news}{beside}")
        elif self._bar.disable:
            self._last = now
            print(f"{news}{beside}", file=sys.stderr)

    def _listen(self) -> None:
        while not self._over.wait(max(EVERY, 1.0)):
            self.beat()

    def _rewind(self, step: int, member: int) -> None:
        """Drop what an interrupted run wrote after the checkpoint from which this one goes on; members of waves that
        were done stay.
        """
        self._file.close()
        _whole_lines(
            self._path, lambda row: row["model"] != self._model or row["step"] < step or row["member"] < member
        )
        self._file = self._path.open("a")
        self._fresh = False

    def __enter__(self) -> "Training":
        self._bar.start()
        self._beats = threading.Thread(target=self._listen, daemon=True)
        self._beats.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._beats.join()
        self._bar.stop()
        self._file.close()


class Pace:
    """How fast things go, and so how long they may still take."""

    def __init__(self, begun: float):
        self._begun, self._first = begun, (begun, 0)
        self._reached: tuple[float, int, int] | None = None

    def reached(self, done: int, of: int, now: float) -> None:
        """So many of all are done; what a run that goes on found done took none of its time."""
        if self._reached is None and done > 1:
            self._first = (now, done)
        self._reached = (now, done, of)

    def words(self, now: float) -> str:
        """The time taken, and from the second news on the time left."""
        taken = f"{_span(now - self._begun)} so far"
        if self._reached is None:
            return taken
        at, done, of = self._reached
        since, before = self._first
        if done <= before or done >= of:
            return taken
        left = (at - since) / (done - before) * (of - done) - (now - at)
        return f"{taken}, about {_span(max(left, 1.0))} to go"


class Sweep:
    """One bar for a whole sweep: jobs done, failed, the best so far, and how far those under way are.

    Plain lines where there is no terminal.
    """

    def __init__(self, jobs: int):
        self._jobs, self._done, self._failed, self._best, self._doing = jobs, 0, 0, float("inf"), ""
        self._bar = Progress(
            TextColumn("sweep"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} jobs"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=Console(file=sys.stderr),
            disable=not sys.stderr.isatty(),
            transient=True,
        )
        self._task = self._bar.add_task("", total=jobs)
        self._said = time.monotonic()

    def __call__(self, value: float | Exception) -> None:
        """A job ended with this value, or failed."""
        self._done += 1
        if isinstance(value, Exception):
            self._failed += 1
        elif value < self._best:
            self._best = value
        self._show()

    def doing(self, what: str) -> None:
        """How far the jobs under way are."""
        self._doing = what
        self._show()

    def _show(self) -> None:
        best = f", best {self._best:.4g}" if self._best < float("inf") else ""
        told = "; ".join(filter(None, (f"{self._failed} failed{best}", self._doing)))
        self._bar.update(self._task, completed=self._done, description=told)
        if self._bar.disable and time.monotonic() - self._said > EVERY:
            self._said = time.monotonic()
            print(f"sweep: {self._done} of {self._jobs} jobs, {told}", file=sys.stderr)

    def __enter__(self) -> "Sweep":
        self._bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()


def _span(seconds: float) -> str:
    """A length of time in words."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _whole_lines(file: Path, wanted: Callable[[dict], bool]) -> None:
    """Keep the wanted rows of a file, and no line that was cut short when a run was killed; whole or not at all."""
    try:
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        kept = [line for line in lines if line.endswith("\n") and wanted(json.loads(line))]
    except (ValueError, LookupError, TypeError) as error:
        why = " ".join(str(error).split())[:100]
        raise UserError(f"{file} is damaged ({why}); delete {file.parent}, and give the same command again") from error
    if kept != lines:
        write_atomic(file, "".join(kept))
