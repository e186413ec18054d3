"""Jobs shared by processes, some of which die."""

import gc
import subprocess
import sys
import threading

import pytest

from framework.sweeps import pool
from framework.sweeps.pool import ProcessPool, run_tasks

TOY = """
import json, os, pathlib, signal, sys
for line in sys.stdin:
    task = json.loads(line)
    mark = pathlib.Path(task["folder"]) / str(task["number"])
    begun = int(mark.read_text()) if mark.exists() else 0
    mark.write_text(str(begun + 1))
    if begun < task["deaths"]:
        os.kill(os.getpid(), signal.SIGKILL) if task["number"] % 2 else os._exit(3)
    print(json.dumps({"progress": "half"}), flush=True)
    print(json.dumps({"value": task["number"]}), flush=True)
"""


@pytest.fixture
def toy(monkeypatch):
    command, pipe = [sys.executable, "-c", TOY], subprocess.PIPE
    monkeypatch.setattr(pool, "_start_worker", lambda: subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("crew", [1, 3])
def test_whoever_dies_is_begun_again_once_and_the_others_are_done(tmp_path, crew):
    deaths = [0, 1, 0, 2, 9, 0, 0, 0]
    tasks = [{"number": number, "deaths": count, "folder": str(tmp_path)} for number, count in enumerate(deaths)]
    told: dict[int, list] = {place: [] for place in range(len(tasks))}
    run_tasks(tasks, crew, lambda place, answer: told[place].append(answer))
    by_hand = "its process was killed by SIGKILL, manually or for lack of memory"
    half = {"progress": "half"}
    for place in (0, 2, 5, 6, 7):
        assert told[place] == [half, {"value": place}]
    assert told[1] == [{"killed": by_hand, "retry": True}, half, {"value": 1}]
    assert told[3] == [{"killed": by_hand, "retry": True}, {"killed": by_hand, "retry": False}]
    assert told[4][-1] == {"killed": "its process ended, code 3", "retry": False}
    assert [int((tmp_path / str(place)).read_text()) for place in range(8)] == [1, 2, 1, 2, 2, 1, 1, 1]


@pytest.mark.usefixtures("toy")
def test_what_goes_wrong_here_is_raised_here(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        run_tasks([{"number": object(), "deaths": 0, "folder": str(tmp_path)}], 1, lambda place, answer: None)


@pytest.mark.usefixtures("toy")
def test_a_process_serves_again_and_one_that_is_gone_is_passed_over(tmp_path):
    processes = ProcessPool()
    processes.prewarm()
    first = processes.acquire()
    processes.release(first)

    def shared(number):
        told = []
        run_tasks([{"number": number, "deaths": 0, "folder": str(tmp_path)}], 1, lambda _, a: told.append(a), processes)
        return told[-1]

    assert shared(0) == {"value": 0}
    assert processes.acquire() is first
    processes.release(first)
    first.kill()
    first.wait()
    assert shared(1) == {"value": 1}
    second = processes.acquire()
    assert second is not first
    processes.release(second)
    del processes
    gc.collect()
    assert second.returncode == 0  # let go, and waited for


SLOW = """
import json, pathlib, sys, time
for line in sys.stdin:
    task = json.loads(line)
    first = task["number"] == 0
    if first:
        time.sleep(1)
        print(json.dumps({"progress": str(time.monotonic())}), flush=True)
        time.sleep(1)
    print(json.dumps({"value": time.monotonic()}), flush=True)
"""


def test_the_others_begin_at_the_first_word_of_the_first(monkeypatch):
    command, pipe = [sys.executable, "-c", SLOW], subprocess.PIPE
    monkeypatch.setattr(pool, "_start_worker", lambda: subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
    told = []
    run_tasks([{"number": 0}, {"number": 1}], 2, lambda place, answer: told.append((place, answer)))
    (first, said), (second, other), (third, own) = told
    assert (first, second, third) == (0, 1, 0)
    assert float(said["progress"]) < other["value"] < own["value"]


@pytest.mark.usefixtures("toy")
def test_where_something_goes_wrong_nobody_goes_on(tmp_path):
    def told(place, answer):
        raise ValueError("the launcher's own")

    before = set(threading.enumerate())
    with pytest.raises(ValueError, match="own"):
        run_tasks([{"number": n, "deaths": 0, "folder": str(tmp_path)} for n in range(50)], 2, told)
    for one in set(threading.enumerate()) - before:
        one.join(timeout=20)
        assert not one.is_alive()
    assert len([*tmp_path.iterdir()]) < 50
