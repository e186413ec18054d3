"""Messages go to standard error through `logging`; standard output has results alone."""

import ast
import logging
from pathlib import Path

import pytest

from framework import logs
from framework.sweeps import pool

ROOT = Path(__file__).parents[1]
RESULTS = {  # modules that print what was asked for, or speak to another process
    "experiments/__main__.py", "framework/cli/cohort.py", "framework/cli/command.py", "framework/cli/doctor.py", "framework/cli/probe.py",
    "framework/cli/report.py", "framework/data/simulate/calibrate.py", "framework/logs.py", "framework/runs/execute.py",
    "framework/runs/predict.py", "framework/runs/pretrain.py", "framework/sweeps/job_log.py", "framework/sweeps/pool.py",
    "framework/sweeps/worker.py", "framework/tadpole/submission.py",
    "framework/plugins/hydra_plugins/prognax_sweeper/_impl.py",
}  # fmt: skip


def prints(file: Path) -> list[ast.Call]:
    return [
        node for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]  # fmt: skip


def test_only_results_are_printed():
    files = [file for folder in ("framework", "experiments") for file in (ROOT / folder).rglob("*.py")]
    calls = {str(file.relative_to(ROOT)): found for file in files if (found := prints(file))}
    assert set(calls) == RESULTS
    to_stderr = [name for name, found in calls.items() for call in found if "sys.stderr" in ast.unparse(call)]
    assert to_stderr == ["framework/logs.py"]


@pytest.mark.parametrize(("option", "level"), [("--quiet", logging.WARNING), ("--verbose", logging.DEBUG)])
def test_a_worker_gets_the_level_of_its_launcher(monkeypatch, option, level):
    def refuse(command, **named):
        raise OSError(command)

    monkeypatch.setattr(pool.subprocess, "Popen", refuse)
    logs.configure(level)
    with pytest.raises(OSError, match="worker") as caught:
        pool._start_worker()
    assert logs.split_verbosity(caught.value.args[0])[0] == level
    assert option in caught.value.args[0]


def test_a_bar_is_drawn_on_a_terminal_at_the_default_level_alone(monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    shown = {}
    for level in (logging.WARNING, logging.INFO, logging.DEBUG):
        logs.configure(level)
        shown[level] = logs.shows_progress_bars()
    assert shown == {logging.WARNING: False, logging.INFO: True, logging.DEBUG: False}


def test_messages_of_other_libraries_are_left_alone(capsys):
    before = list(logging.root.handlers), logging.root.level
    logs.configure(logging.DEBUG)
    logging.getLogger("zarr").info("no message")
    assert (list(logging.root.handlers), logging.root.level) == before
    assert capsys.readouterr().err == ""
