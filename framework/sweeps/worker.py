"""Worker process that runs jobs of a sweep one after another, the step compiled once.

`python -m framework.sweeps.worker` reads one task a line and answers each with a line, after lines of progress; all
are JSON. When its launcher has ended it ends at once.
"""

import json
import queue
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TextIO

from omegaconf import DictConfig, OmegaConf

from framework import logs
from framework.config.error_lines import explain
from framework.data.queries.examples import Examples
from framework.errors import InternalError, UserError
from framework.forecast.base import Forecaster
from framework.runs.data_loading import load_examples
from framework.runs.execute import run_job, single_split_job, use_compilation_cache
from framework.runs.job import Job
from framework.sweeps.job_log import format_traceback, summarize_error
from framework.train.stopping import Stop


def build_task(job: Job, program: str, command: str) -> dict:
    """Return the task of a job: its resolved configs, the key of its compiled program, the command it is part of."""
    config = {key: value for key, value in job.resolved_config.items() if key != "fitted"}
    return {"config": config, "models": job.resolved_config["fitted"], "program": program, "command": command}


class WorkerCache:
    """Examples and compiled programs of earlier jobs, which later jobs use again."""

    def __init__(self):
        self._examples: dict[str, Examples] = {}
        self._forecasters: dict[str, Forecaster] = {}

    def build_job(self, task: Mapping[str, Any], on_news: Callable[[str], None]) -> Job:
        """Build the job of a task; the forecaster of the first job of a program fits all jobs of that program."""
        models = {name: DictConfig(model) for name, model in task["models"].items()}
        job = single_split_job(DictConfig(task["config"]), models, self.load_examples)
        forecaster = self._forecasters.setdefault(task["program"], job.forecasters[job.studied])
        return replace(job, fit_with={job.studied: forecaster}, on_news=on_news)

    def load_examples(self, config: DictConfig) -> Examples:
        """Load the examples of a data config once, with their caches, for all jobs."""
        key = json.dumps([OmegaConf.to_container(config.data, resolve=True), config.task], sort_keys=True)
        if key not in self._examples:
            self._examples[key] = load_examples(config)
        return self._examples[key]


def _run_task(cache: WorkerCache, task: Mapping[str, Any], on_news: Callable[[str], None]) -> dict:
    try:
        value = run_job(cache.build_job(task, on_news), quiet=True, command=task["command"])
        return {"value": value, "run": str(value.folder)}
    except Exception as error:  # answered to the launcher; the next job goes on
        return describe_failure(error)


def describe_failure(error: Exception) -> dict:
    """Return the answer of a failed job: one line where the user can fix it, else the error with its traceback."""
    line = explain(error, "forecast")
    return (
        {"failed": line} if line is not None else {"internal": summarize_error(error), "trace": format_traceback(error)}
    )


def rebuild_error(answer: Mapping[str, Any]) -> UserError | InternalError:
    """Return the error that an answer of `describe_failure` describes."""
    if "internal" in answer:
        return InternalError(answer["internal"], answer["trace"])
    return UserError(answer["failed"])


def _read_tasks(tasks: "queue.SimpleQueue[str]", lines: TextIO, stop: Stop) -> None:
    for line in lines:
        tasks.put(line)
    stop.end("its launcher has ended", 0)  # a running job resumes from its checkpoint another time


def main() -> None:
    """Run the tasks of standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher handles it, and closes the input
    answers, sys.stdout = sys.stdout, sys.stderr
    logs.configure(logs.split_verbosity(sys.argv[1:])[0])
    use_compilation_cache()
    cache, tasks = WorkerCache(), queue.SimpleQueue()
    with Stop() as stop:
        threading.Thread(target=_read_tasks, args=(tasks, sys.stdin, stop), daemon=True).start()
        _serve(cache, tasks, answers)


def _serve(cache: WorkerCache, tasks: "queue.SimpleQueue[str]", answers: TextIO) -> None:
    """Run one task after another until the process ends."""

    lock = threading.Lock()  # a training reports progress from a thread of its own

    def send(line: Mapping) -> None:
        with lock:
            print(json.dumps(line), file=answers, flush=True)

    while True:
        send(_run_task(cache, json.loads(tasks.get()), lambda news: send({"progress": news})))


if __name__ == "__main__":
    main()
