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
        self._model = model
        self._file = file.open("a")
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
        self.best: dict[int, float] = {}

    def __call__(self, row: dict) -> None:
        total = row.pop("of")
        self._file.write(json.dumps({"model": self._model, **row}) + "\n")
        self.best[row["member"]] = min(row["validation"], self.best.get(row["member"], float("inf")))
        loss = f"train {row['train']:.3f}, validation {row['validation']:.3f}"
        self._bar.update(self._task, completed=row["step"], total=total, loss=loss)
        if self._bar.disable and time.monotonic() - self._said > EVERY:
            self._said = time.monotonic()
            print(f"{self._model}: step {row['step']} of at most {total}, {loss}", file=sys.stderr)

    def __enter__(self) -> "Training":
        self._bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()
        self._file.close()
