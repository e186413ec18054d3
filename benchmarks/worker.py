"""One library at work in a process of its own, timed on request.

Two libraries in one process would share it badly: their thread pools fight for the cores, and allocator settings, which
decide a good part of the time on a CPU, must be there before a process starts. A worker that is not asked sleeps; each
answer says how much of the processor it used since the one before, so that a pool that spins while the other side
is being timed is found out.

    python -m benchmarks.worker benchmarks.networks      (one JSON request a line in, one JSON answer a line out)
"""

import importlib
import json
import math
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from benchmarks.cases import Contenders


class WorkerError(RuntimeError):
    """What a worker was asked for came to nothing; the next request may do better."""


class Worker:
    """The asking end: a context manager around the process that loads `module`; one that dies is begun anew."""

    def __init__(self, module: str, settings: Mapping[str, str]):
        self.idle = 0.0  # the most seconds of processor time it used in one pause
        self.used = 0.0  # seconds of processor time by its last answer, its preparations among them
        self._module, self._settings = module, settings
        self._begin()

    def _begin(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **self._settings},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        self.environment: dict = self._answer()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_) -> None:
        self._requests.close()
        self._process.wait()

    def prepare(self, task: str, case: str, **options: Any) -> tuple[list[str], dict]:
        """Build and compile a case in place of the one before: its labels, and what is known of it."""
        if self._process.poll() is not None:
            self._begin()
        answer = self._ask(prepare=[task, case], options=options)
        return answer["labels"], answer["facts"]

    def turn(self, label: str, calls: int) -> list[float]:
        """Seconds of each of so many calls in a row."""
        answer = self._ask(run=label, calls=calls)
        self.idle = max(self.idle, answer["idle"])
        return answer["seconds"]

    def _ask(self, **request: Any) -> dict:
        try:
            self._requests.write(json.dumps(request) + "\n")
            self._requests.flush()
        except BrokenPipeError:
            raise WorkerError(f"the worker {self._module} has ended") from None
        answer = self._answer()
        self.used = answer["used"]
        if "failed" in answer:
            raise WorkerError(answer["failed"])
        return answer

    def _answer(self) -> dict:
        line = self._answers.readline()
        if not line:
            raise WorkerError(f"the worker {self._module} ended with code {self._process.wait()}")
        return json.loads(line)


def entered(
    peer: Worker, failed: dict[str, str], task: str, case: str, **options: Any
) -> tuple[dict[str, Callable[[int], list[float]]], dict]:
    """The turns of a peer's contenders and what is known of a case; who fails is noted and called no more."""
    try:
        labels, facts = peer.prepare(task, case, **options)
    except WorkerError as error:
        _note(failed, peer._module, error)
        return {}, {}

    def turn(label: str, calls: int) -> list[float]:
        if label not in failed:
            try:
                return peer.turn(label, calls)
            except WorkerError as error:
                _note(failed, label, error)
        return [math.nan] * calls

    failed |= facts.pop("failed", {})
    return {label: partial(turn, label) for label in labels}, facts


def _note(failed: dict[str, str], label: str, error: WorkerError) -> None:
    failed[label] = str(error)
    print(f"{label} failed: {error}", file=sys.stderr)


def serve(module: str) -> None:
    """The answering end; whatever else is printed here goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    side = importlib.import_module(module)
    print(json.dumps(side.environment()), file=answers)
    contenders, rested = Contenders({}, {}), time.process_time()
    for line in sys.stdin:
        request, idle = json.loads(line), time.process_time() - rested
        try:
            if "prepare" in request:
                contenders = Contenders({}, {})  # frees the case before
                contenders = side.contenders(*request["prepare"], **request["options"])
                answer = {"labels": list(contenders.calls), "facts": dict(contenders.facts)}
            else:
                answer = {"seconds": clock(contenders.calls[request["run"]], request["calls"]), "idle": idle}
        except Exception as error:  # the asking end decides whether it can do without
            traceback.print_exc()
            answer = {"failed": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
        rested = time.process_time()
        print(json.dumps({**answer, "used": rested}), file=answers)


def clock(call: Callable[[], object], calls: int) -> list[float]:
    """Wall seconds of each call."""
    seconds = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    serve(sys.argv[1])
