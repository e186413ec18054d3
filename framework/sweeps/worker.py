"""A process that does jobs of a sweep one after another, the step compiled once: `python -m framework.sweeps.worker`.

It reads a task a line and answers each with a line, before which it says how far it is; all are JSON. When nobody is
left to read the answers it ends at once.
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

from framework.config.error_lines import explain
from framework.data.queries.examples import Examples
from framework.errors import InternalError, UserError
from framework.forecast.base import Forecaster
from framework.runs.data_loading import examples_of
from framework.runs.execute import run, single, use_compilation_cache
from framework.runs.job import Job
from framework.sweeps.job_log import summary, trace
from framework.train.stopping import Stop


def task(job: Job, alike: str, command: str) -> dict:
    """What a worker is told: the job's resolved configs, what it shares with others, the command it is part of."""
    config = {key: value for key, value in job.what.items() if key != "fitted"}
    return {"config": config, "models": job.what["fitted"], "alike": alike, "command": command}


class Warm:
    """Jobs made of what earlier ones opened and compiled."""

    def __init__(self):
        self._examples: dict[str, Examples] = {}
        self._learners: dict[str, Forecaster] = {}

    def job(self, told: Mapping[str, Any], said: Callable[[str], None]) -> Job:
        """The job of a task, which tells how far it is; of those `alike` the first one's forecaster fits all."""
        models = {name: DictConfig(model) for name, model in told["models"].items()}
        made = single(DictConfig(told["config"]), models, self.examples)
        name = made.studied
        learner = self._learners.setdefault(told["alike"], made.forecasters[name])
        return replace(made, by={name: learner}, said=said)

    def examples(self, config: DictConfig) -> Examples:
        """Those of a data config, opened once: what is asked and cached of them serves all jobs."""
        key = json.dumps([OmegaConf.to_container(config.data, resolve=True), config.ask], sort_keys=True)
        if key not in self._examples:
            self._examples[key] = examples_of(config)
        return self._examples[key]


def _do(warm: Warm, told: Mapping[str, Any], said: Callable[[str], None]) -> dict:
    try:
        job = warm.job(told, said)
        value = run(job, quiet=True, command=told["command"])
        return {"value": value, "run": str(value.folder)}
    except Exception as error:  # answered to the launcher; the next job goes on
        return failure(error)


def failure(error: Exception) -> dict:
    """The answer of a job that failed: one line where the user can fix it, else the error with its traceback."""
    line = explain(error, "forecast")
    return {"failed": line} if line is not None else {"internal": summary(error), "trace": trace(error)}


def raised(answer: Mapping[str, Any]) -> UserError | InternalError:
    """The error that a `failure` answers."""
    if "internal" in answer:
        return InternalError(answer["internal"], answer["trace"])
    return UserError(answer["failed"])


def _listen(tasks: "queue.SimpleQueue[str]", told: TextIO, stop: Stop) -> None:
    for line in told:
        tasks.put(line)
    stop.end("its launcher has ended", 0)  # what is under way goes on from its checkpoint another time


def main() -> None:
    """Do what is told on standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher hears it, and lets go
    answers, sys.stdout = sys.stdout, sys.stderr
    use_compilation_cache()
    warm, tasks = Warm(), queue.SimpleQueue()
    with Stop() as stop:
        threading.Thread(target=_listen, args=(tasks, sys.stdin, stop), daemon=True).start()
        _answer(warm, tasks, answers)


def _answer(warm: Warm, tasks: "queue.SimpleQueue[str]", answers: TextIO) -> None:
    """One task after another, for as long as somebody listens."""

    turn = threading.Lock()  # a training's own thread says how it goes

    def say(line: Mapping) -> None:
        with turn:
            print(json.dumps(line), file=answers, flush=True)

    while True:
        say(_do(warm, json.loads(tasks.get()), lambda text: say({"said": text})))


if __name__ == "__main__":
    main()
