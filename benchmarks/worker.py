"""A library in a process of its own, timed on request.

Two libraries in one process disturb each other: their thread pools compete for the cores, and allocator settings, which
affect times on a CPU strongly, must be set before a process starts. A worker sleeps between requests; each answer
contains the processor time used since the one before, which reveals a thread pool that spins while another library is
timed.

    python -m benchmarks.worker benchmarks.networks      (a JSON request per line in, a JSON answer per line out)
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
    """A request to a worker failed; the next one may succeed."""


class Worker:
    """Client of a process that loads `module`, as a context manager; a process that dies is restarted."""

    def __init__(self, module: str, settings: Mapping[str, str]):
        self.idle = 0.0  # largest processor time (s) in one pause
        self.used = 0.0  # processor time (s) until the last answer, preparations included
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
        """Build and compile a case in place of the one before; return its labels and facts."""
        if self._process.poll() is not None:
            self._begin()
        answer = self._ask(prepare=[task, case], options=options)
        return answer["labels"], answer["facts"]

    def turn(self, label: str, calls: int) -> list[float]:
        """Return the seconds of each of `calls` successive calls."""
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


def peer_turns(
    peer: Worker, failed: dict[str, str], task: str, case: str, **options: Any
) -> tuple[dict[str, Callable[[int], list[float]]], dict]:
    """Return the turns of a peer's contenders and the facts of a case; failures are recorded and not called again."""
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
    """Answer requests; other output goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    library = importlib.import_module(module)
    print(json.dumps(library.environment()), file=answers)
    contenders, rested = Contenders({}, {}), time.process_time()
    for line in sys.stdin:
        request, idle = json.loads(line), time.process_time() - rested
        try:
            if "prepare" in request:
                contenders = Contenders({}, {})  # free the previous case
                contenders = library.contenders(*request["prepare"], **request["options"])
                answer = {"labels": list(contenders.calls), "facts": dict(contenders.facts)}
            else:
                answer = {"seconds": clock(contenders.calls[request["run"]], request["calls"]), "idle": idle}
        except Exception as error:  # the client decides whether it is fatal
            traceback.print_exc()
            answer = {"failed": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
        rested = time.process_time()
        print(json.dumps({**answer, "used": rested}), file=answers)


def clock(call: Callable[[], object], calls: int) -> list[float]:
    """Return the wall seconds of each call."""
    seconds = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    serve(sys.argv[1])
