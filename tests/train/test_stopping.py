"""SIGINT and SIGTERM end a run in an orderly way, or all the same where it computes and hears nothing."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from framework.runs.folder import RunFolder
from framework.train.stopping import MESSAGES, REASONS, Stop

ROOT = Path(__file__).parents[2]
PROGRAM = """
import gc
import signal
import sys
from pathlib import Path
import jax
from framework.cli.command import command
from framework.runs.folder import RunFolder

def deep():
    # no compiler knows the range of a sine, so none may leave this loop out
    go_on = jax.jit(lambda x: jax.lax.while_loop(lambda x: x > -2, jax.numpy.sin, x)).lower(1.0).compile()
    print("computing", flush=True)
    go_on(1.0).block_until_ready()

def shallow():
    print("computing", flush=True)
    while True:
        sys.stdin.readline()

def collecting():
    gc.callbacks.append(lambda phase, info: [print("computing", flush=True), sys.stdin.readline()])
    while True:
        gc.collect()

def run(config):
    folder = RunFolder(Path(sys.argv.pop()))
    folder.path.mkdir()
    with folder.track_status():
        globals()[sys.argv.pop()]()

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a test begun in the background has ignored
depth, place = sys.argv[1:]
sys.argv[1:] = []
def function(config):
    sys.argv += [depth, place]
    run(config)
command("report")(function)()
"""


@pytest.mark.parametrize("depth", ["deep", "shallow", "collecting"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_in_one_line_with_a_true_status(tmp_path, depth, number):
    """`deep` never comes back from a compiled program; what is raised while `collecting` is dropped by Python."""
    words = [sys.executable, "-c", PROGRAM, depth, str(tmp_path / "run")]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) as life:
        assert life.stdout is not None
        assert life.stdout.readline() == "computing\n"
        assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "running"
        life.send_signal(number)
        try:
            _, err = life.communicate(timeout=120)
        finally:
            life.kill()
    assert life.returncode == 128 + number
    assert err.splitlines() == [MESSAGES[number]]
    status = RunFolder(tmp_path / "run").status()
    assert status["state"] == "stopped"
    assert status["reason"] in (REASONS[number], MESSAGES[number])
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["status.json"]


def test_one_inside_another_only_adds_its_mark():
    before = [signal.getsignal(number) for number in MESSAGES]
    outer, inner = (lambda reason: None), (lambda reason: None)
    with Stop(outer) as host:
        with Stop(inner):
            assert host._marks == [outer, inner]
        assert host._marks == [outer]
    assert [signal.getsignal(number) for number in MESSAGES] == before


def test_where_somebody_else_listens_it_leaves_the_signal_to_him():
    def theirs(number, frame):
        pass

    old = signal.signal(signal.SIGTERM, theirs)
    try:
        with Stop():
            assert signal.getsignal(signal.SIGTERM) is theirs
    finally:
        signal.signal(signal.SIGTERM, old)


def test_what_is_finished_stays_finished_whatever_comes_after(tmp_path):
    folder = RunFolder(tmp_path)
    folder.update_manifest(created="now")

    def ends() -> None:
        folder.finish()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), folder.track_status():
        ends()
    assert folder.status()["state"] == "finished"
