"""Processes that share out the jobs of a sweep; one that dies takes nobody else's job with it."""

import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any

Answer = Mapping[str, Any]
BEGUN = 2  # times that a job is begun whose process dies over it


def share(tasks: Sequence[Mapping], workers: int, told: Callable[[int, Answer], None]) -> None:
    """Have every task answered by one of so many workers; `told(place, answer)` hears of each as it comes.

    Where a process dies the answer says how, `killed`, and whether another will begin the job `again`.
    """
    waiting, answers = SimpleQueue(), SimpleQueue()
    for place in range(len(tasks)):
        waiting.put(place)
    crew = [_Crew(tasks, waiting, answers) for _ in range(min(workers, len(tasks)))]
    try:
        for one in crew:
            one.start()
        left = len(tasks)
        while left:
            place, answer = answers.get()
            if isinstance(answer, BaseException):
                raise answer
            left -= not answer.get("again", False)
            told(place, answer)
    finally:
        for one in crew:
            one.dismiss()


class _Crew(threading.Thread):
    """One worker, and another in its place when it dies, until nothing waits."""

    def __init__(self, tasks: Sequence[Mapping], waiting: "SimpleQueue[int]", answers: SimpleQueue):
        super().__init__(daemon=True)
        self._tasks, self._waiting, self._answers = tasks, waiting, answers
        self._begun: Counter[int] = Counter()
        self._process: subprocess.Popen[str] | None = None

    def run(self) -> None:
        place = -1
        try:
            while True:
                place = self._waiting.get_nowait()
                answer = self._ask(place)
                while answer.get("again"):  # by a fresh process, here: others may have none waiting and be gone
                    self._answers.put((place, answer))
                    answer = self._ask(place)
                self._answers.put((place, answer))
        except Empty:
            return
        except Exception as error:  # raised where the answers are awaited
            self._answers.put((place, error))

    def dismiss(self) -> None:
        """Let go of the worker, which then ends, whatever it does."""
        if self._process is not None:
            self._process.communicate()  # closes its standard input

    def _ask(self, place: int) -> Answer:
        self._begun[place] += 1
        worker = self._process = self._process or _worker()
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            print(json.dumps(self._tasks[place]), file=worker.stdin, flush=True)
            line = worker.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line.endswith("\n"):
            return json.loads(line)
        code, self._process = worker.wait(), None
        return {"killed": _how(code), "again": self._begun[place] < BEGUN}


def _worker() -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "framework.launch.worker"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _how(code: int) -> str:
    """What became of a process that did not answer."""
    if code == -signal.SIGKILL:
        return "its process was killed by SIGKILL, by hand or for want of memory"
    return f"its process was killed by {signal.Signals(-code).name}" if code < 0 else f"its process ended, code {code}"
