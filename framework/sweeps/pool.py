"""A pool of worker processes that share out the jobs of a sweep; the death of one worker costs its own job alone."""

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

from framework.logs import verbosity_options

Answer = Mapping[str, Any]
MAX_ATTEMPTS = 2  # times that a job is begun whose process dies


class ProcessPool:
    """Idle workers, which end with the pool or with the program."""

    def __init__(self):
        self._idle: deque[subprocess.Popen[str]] = deque()
        weakref.finalize(self, _stop_workers, self._idle)

    def prewarm(self) -> None:
        """Start a worker that loads its modules before it is needed."""
        if not self._idle:
            self._idle.append(_start_worker())

    def acquire(self) -> "subprocess.Popen[str]":
        """Return an idle worker, with its caches, or else a new one."""
        while self._idle:
            if (worker := self._idle.popleft()).poll() is None:
                return worker
        return _start_worker()

    def release(self, worker: "subprocess.Popen[str]") -> None:
        """Keep a worker for later tasks."""
        self._idle.append(worker)


def run_tasks(
    tasks: Sequence[Mapping], workers: int, on_answer: Callable[[int, Answer], None], pool: ProcessPool | None = None
) -> None:
    """Have every task answered by one of so many workers; `on_answer(place, answer)` receives each answer.

    Before its answer a task may report `progress`. Where a process dies the answer says how it was `killed`, and if
    another process will `retry` the job. All workers but one wait for its first line, to find its programs compiled.
    """
    queue = _TaskQueue(tasks, pool or ProcessPool())
    for place in range(len(tasks)):
        queue.pending.put(place)
    threads = [_WorkerThread(queue, first=number == 0) for number in range(min(workers, len(tasks)))]
    try:
        for thread in threads:
            thread.start()
        unanswered = len(tasks)
        while unanswered:
            place, answer = queue.answers.get()
            if isinstance(answer, BaseException):
                raise answer
            unanswered -= not ("progress" in answer or answer.get("retry"))
            on_answer(place, answer)
        for thread in threads:
            thread.join()
    except BaseException:
        queue.cancelled.set()
        queue.compiled.set()
        for thread in threads:
            thread.dismiss()
        raise


@dataclass(frozen=True)
class _TaskQueue:
    """State that the threads of the workers share; after `cancelled` no task is begun."""

    tasks: Sequence[Mapping]
    pool: ProcessPool
    pending: "SimpleQueue[int]" = field(default_factory=SimpleQueue)
    answers: "SimpleQueue[tuple[int, Any]]" = field(default_factory=SimpleQueue)
    compiled: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)


class _WorkerThread(threading.Thread):
    """Thread of one worker, which replaces it when it dies, until no task is pending."""

    def __init__(self, queue: _TaskQueue, first: bool):
        super().__init__(daemon=True)
        self._queue, self._first = queue, first
        self._attempts: Counter[int] = Counter()
        self._process: subprocess.Popen[str] | None = None

    def run(self) -> None:
        queue, place = self._queue, -1
        try:
            self._process = queue.pool.acquire()
            if not self._first:
                queue.compiled.wait()
            while not queue.cancelled.is_set():
                place = queue.pending.get_nowait()
                answer = self._ask(place)
                # by a new process, in this thread: the other threads may have ended
                while answer.get("retry") and not queue.cancelled.is_set():
                    queue.answers.put((place, answer))
                    answer = self._ask(place)
                queue.answers.put((place, answer))
        except Empty:
            if self._process is not None:
                queue.pool.release(self._process)
        except Exception as error:  # raised where the answers are awaited
            queue.answers.put((place, error))

    def dismiss(self) -> None:
        """End the worker."""
        if self._process is not None:
            _stop_workers([self._process])

    def _ask(self, place: int) -> Answer:
        self._attempts[place] += 1
        worker = self._process = self._process or self._queue.pool.acquire()
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            print(json.dumps(self._queue.tasks[place]), file=worker.stdin, flush=True)
            while (line := worker.stdout.readline()).endswith("\n"):
                self._queue.compiled.set()
                answer = json.loads(line)
                if "progress" not in answer:
                    return answer
                self._queue.answers.put((place, answer))
        except BrokenPipeError:
            pass
        self._queue.compiled.set()
        code, self._process = worker.wait(), None
        return {"killed": _exit_reason(code), "retry": self._attempts[place] < MAX_ATTEMPTS}


def _stop_workers(workers: Iterable["subprocess.Popen[str]"]) -> None:
    """Close the input of workers, which end at once."""
    for worker in workers:
        worker.communicate()


def _start_worker() -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "framework.sweeps.worker", *verbosity_options()]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _exit_reason(code: int) -> str:
    """Describe the end of a process that did not answer."""
    if code == -signal.SIGKILL:
        return "its process was killed by SIGKILL, manually or for lack of memory"
    return f"its process was killed by {signal.Signals(-code).name}" if code < 0 else f"its process ended, code {code}"
