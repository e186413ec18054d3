"""One library at work in a process of its own, timed on request.

Two libraries in one process would share it badly: their thread pools fight for the cores, and allocator settings, which
decide a good part of the time on a CPU, must be there before a process starts. A worker that is not asked sleeps; each
answer says how much of the processor it used since the one before, so that a pool that spins while the other side
is being timed is found out.

    python -m benchmarks.worker benchmarks.networks      (one JSON request a line in, one JSON answer a line out)
"""

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.cases import Contenders


class Worker:
    """The asking end: a context manager around the process that loads `module`."""

    def __init__(self, module: str, settings: Mapping[str, str]):
        self.idle = 0.0  # the most seconds of processor time it used in one pause
        self.used = 0.0  # seconds of processor time by its last answer, its preparations among them
        self._module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **settings},
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
        answer = self._ask(prepare=[task, case], options=options)
        return answer["labels"], answer["facts"]

    def turn(self, label: str, calls: int) -> list[float]:
        """Seconds of each of so many calls in a row."""
        answer = self._ask(run=label, calls=calls)
        self.idle = max(self.idle, answer["idle"])
        return answer["seconds"]

    def _ask(self, **request: Any) -> dict:
        self._requests.write(json.dumps(request) + "\n")
        self._requests.flush()
        answer = self._answer()
        self.used = answer["used"]
        return answer

    def _answer(self) -> dict:
        line = self._answers.readline()
        if not line:
            raise RuntimeError(f"the worker {self._module} ended with code {self._process.wait()}")
        return json.loads(line)


def serve(module: str) -> None:
    """The answering end; whatever else is printed here goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    side = importlib.import_module(module)
    print(json.dumps(side.environment()), file=answers)
    contenders, rested = Contenders({}, {}), time.process_time()
    for line in sys.stdin:
        request, idle = json.loads(line), time.process_time() - rested
        if "prepare" in request:
            contenders = Contenders({}, {})  # frees the case before
            contenders = side.contenders(*request["prepare"], **request["options"])
            answer = {"labels": list(contenders.calls), "facts": dict(contenders.facts)}
        else:
            answer = {"seconds": clock(contenders.calls[request["run"]], request["calls"]), "idle": idle}
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
