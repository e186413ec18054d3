"""Jobs shared by processes, some of which die."""

import subprocess
import sys

import pytest

from framework.launch import workers
from framework.launch.workers import share

TOY = """
import json, os, pathlib, signal, sys
for line in sys.stdin:
    task = json.loads(line)
    mark = pathlib.Path(task["folder"]) / str(task["number"])
    begun = int(mark.read_text()) if mark.exists() else 0
    mark.write_text(str(begun + 1))
    if begun < task["deaths"]:
        os.kill(os.getpid(), signal.SIGKILL) if task["number"] % 2 else os._exit(3)
    print(json.dumps({"value": task["number"]}), flush=True)
"""


@pytest.fixture
def toy(monkeypatch):
    command, pipe = [sys.executable, "-c", TOY], subprocess.PIPE
    monkeypatch.setattr(workers, "_worker", lambda: subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("crew", [1, 3])
def test_whoever_dies_is_begun_again_once_and_the_others_are_done(tmp_path, crew):
    deaths = [0, 1, 0, 2, 9, 0, 0, 0]
    tasks = [{"number": number, "deaths": count, "folder": str(tmp_path)} for number, count in enumerate(deaths)]
    told: dict[int, list] = {place: [] for place in range(len(tasks))}
    share(tasks, crew, lambda place, answer: told[place].append(answer))
    by_hand = "its process was killed by SIGKILL, by hand or for want of memory"
    for place in (0, 2, 5, 6, 7):
        assert told[place] == [{"value": place}]
    assert told[1] == [{"killed": by_hand, "again": True}, {"value": 1}]
    assert told[3] == [{"killed": by_hand, "again": True}, {"killed": by_hand, "again": False}]
    assert told[4][-1] == {"killed": "its process ended, code 3", "again": False}
    assert [int((tmp_path / str(place)).read_text()) for place in range(8)] == [1, 2, 1, 2, 2, 1, 1, 1]


@pytest.mark.usefixtures("toy")
def test_what_goes_wrong_here_is_raised_here(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        share([{"number": object(), "deaths": 0, "folder": str(tmp_path)}], 1, lambda place, answer: None)
