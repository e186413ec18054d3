"""What a person sees while models train, and what is kept of it."""

import json
import sys
import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

EVERY = 10.0  # seconds between plain lines where there is no terminal


class Training:
    """A bar with its ETA on a terminal, plain lines elsewhere; each row also goes to `metrics.jsonl`."""

    def __init__(self, model: str, file: Path):
        self._model, self._path = model, file
        self._file = file.open("a", buffering=1)  # a line is on disk once it is written
        self._fresh = True
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} steps"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
            console=Console(file=sys.stderr),
            disable=not sys.stderr.isatty(),
            transient=True,
        )
        self._task = self._bar.add_task(model, total=None, loss="")
        self._said = time.monotonic()

    def __call__(self, row: dict) -> None:
        total = row.pop("of")
        if self._fresh:
            self._rewind(row["step"])
        self._file.write(json.dumps({"model": self._model, **row}) + "\n")
        loss = f"train {row['train']:.3f}, validation {row['validation']:.3f}"
        self._bar.update(self._task, completed=row["step"], total=total, loss=loss)
        if self._bar.disable and time.monotonic() - self._said > EVERY:
            self._said = time.monotonic()
            print(f"{self._model}: step {row['step']} of at most {total}, {loss}", file=sys.stderr)

    def _rewind(self, step: int) -> None:
        """Drop what an interrupted run wrote after the checkpoint from which this one goes on."""
        rows = [json.loads(line) for line in self._path.read_text().splitlines()]
        kept = [row for row in rows if row["model"] != self._model or row["step"] < step]
        self._file.truncate(0)
        self._file.writelines(json.dumps(row) + "\n" for row in kept)
        self._fresh = False

    def __enter__(self) -> "Training":
        self._bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()
        self._file.close()
