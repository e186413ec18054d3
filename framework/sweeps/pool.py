"""Processes that share out the jobs of a sweep; one that dies takes nobody else's job with it."""

import json
import signal
import subprocess
import sys
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

Answer = Mapping[str, Any]
BEGUN = 2  # times that a job is begun whose process dies over it


class Processes:
    """Workers that wait for tasks, until nobody has any use for these or the program ends."""

    def __init__(self):
        self._idle: deque[subprocess.Popen[str]] = deque()
        weakref.finalize(self, _dismiss, self._idle)

    def ahead(self) -> None:
        """Have one at hand that has loaded what it needs by the time it is needed."""
        if not self._idle:
            self._idle.append(_worker())

    def take(self) -> "subprocess.Popen[str]":
        """One that waits, warm from what it did before; else a new one."""
        while self._idle:
            if (one := self._idle.popleft()).poll() is None:
                return one
        return _worker()

    def give(self, one: "subprocess.Popen[str]") -> None:
        """Let it wait for what comes next."""
        self._idle.append(one)


def share(
    tasks: Sequence[Mapping], workers: int, told: Callable[[int, Answer], None], processes: Processes | None = None
) -> None:
    """Have every task answered by one of so many workers; `told(place, answer)` hears of each as it comes.

    On the way to an answer it hears what was `said`. Where a process dies the answer says how, `killed`, and whether
    another will begin the job `again`. All but one wait for its first word, to find compiled what it compiled.
    """
    work = _Work(tasks, processes or Processes())
    for place in range(len(tasks)):
        work.waiting.put(place)
    crew = [_Crew(work, first=number == 0) for number in range(min(workers, len(tasks)))]
    try:
        for one in crew:
            one.start()
        left = len(tasks)
        while left:
            place, answer = work.answers.get()
            if isinstance(answer, BaseException):
                raise answer
            left -= not ("said" in answer or answer.get("again"))
            told(place, answer)
        for one in crew:
            one.join()
    except BaseException:
        work.over.set()
        work.compiled.set()
        for one in crew:
            one.dismiss()
        raise


@dataclass(frozen=True)
class _Work:
    """What the crew shares."""

    tasks: Sequence[Mapping]
    processes: Processes
    waiting: "SimpleQueue[int]" = field(default_factory=SimpleQueue)
    answers: "SimpleQueue[tuple[int, Any]]" = field(default_factory=SimpleQueue)
    compiled: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)  # something went wrong: nothing more is begun


class _Crew(threading.Thread):
    """One worker, and another in its place when it dies, until nothing waits."""

    def __init__(self, work: _Work, first: bool):
        super().__init__(daemon=True)
        self._work, self._first = work, first
        self._begun: Counter[int] = Counter()
        self._process: subprocess.Popen[str] | None = None

    def run(self) -> None:
        work, place = self._work, -1
        try:
            self._process = work.processes.take()
            if not self._first:
                work.compiled.wait()
            while not work.over.is_set():
                place = work.waiting.get_nowait()
                answer = self._ask(place)
                # by a fresh process, here: others may have none waiting and be gone
                while answer.get("again") and not work.over.is_set():
                    work.answers.put((place, answer))
                    answer = self._ask(place)
                work.answers.put((place, answer))
        except Empty:
            if self._process is not None:
                work.processes.give(self._process)
        except Exception as error:  # raised where the answers are awaited
            work.answers.put((place, error))

    def dismiss(self) -> None:
        """Let go of the worker."""
        if self._process is not None:
            _dismiss([self._process])

    def _ask(self, place: int) -> Answer:
        self._begun[place] += 1
        worker = self._process = self._process or self._work.processes.take()
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            print(json.dumps(self._work.tasks[place]), file=worker.stdin, flush=True)
            while (line := worker.stdout.readline()).endswith("\n"):
                self._work.compiled.set()
                answer = json.loads(line)
                if "said" not in answer:
                    return answer
                self._work.answers.put((place, answer))
        except BrokenPipeError:
            pass
        self._work.compiled.set()
        code, self._process = worker.wait(), None
        return {"killed": _how(code), "again": self._begun[place] < BEGUN}


def _dismiss(processes: Iterable["subprocess.Popen[str]"]) -> None:
    """Let go of workers, which then end, whatever they do."""
    for one in processes:
        one.communicate()  # closes its standard input


def _worker() -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "framework.sweeps.worker"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _how(code: int) -> str:
    """What became of a process that did not answer."""
    if code == -signal.SIGKILL:
        return "its process was killed by SIGKILL, by hand or for want of memory"
    return f"its process was killed by {signal.Signals(-code).name}" if code < 0 else f"its process ended, code {code}"
