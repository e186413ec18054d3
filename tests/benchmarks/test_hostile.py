"""A dozen of the payloads of `benchmarks.hostile`, opened as users would, and the events that its guard records."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from benchmarks.guard import Seen
from benchmarks.hostile import FAULTS, faults
from benchmarks.payloads import all_payloads
from benchmarks.payloads.making import Payload, table_overrides
from framework.data.cohort.schema import Schema, Variable
from framework.digests import seal

DOZEN = (
    "the model is framework.native.register",
    "the model is framework.runs.predict.predict",
    "the model is evil.Evil",
    "the model is optax.adamw",
    "the run trusts ['evil']",
    "the head is evil.Evil",
    "the schedule is framework.native.register",
    "a reader of /etc/passwd",
    "the cohort is called ${oc.env:HOME}",
    "a configuration with an apply tag",
    "a modality called '../../../evil'",
    "a folder sets trust",
    "a folder sets a callback",
    "a folder sets a compiler",
    "a folder sets a log file",
    "a folder sets a package within",
)
CONTROL = """
import json, os, pickle, subprocess, sys
from pathlib import Path
from benchmarks.guard import guarded
folder = Path(sys.argv[1])
for name in ("work", "home", "victim"):
    (folder / name).mkdir()
(folder / "victim" / "x").write_text("x")
(folder / "work" / "evil.py").write_text("")
victim = folder / "victim"
acts = {
    "a file": lambda: (victim / "y").write_text("y"),
    "a folder": lambda: os.mkdir(victim / "d"),
    "a file gone": lambda: os.remove(victim / "x"),
    "a module": lambda: __import__("evil"),
    "a program": lambda: subprocess.run(["true"]),
    "a shell": lambda: os.system("true"),
    "a variable": lambda: os.environ.update(CXX="x"),
    "a pickle": lambda: pickle.loads(pickle.dumps(Path("x"))),
    "a crash": lambda: os.kill(os.getpid(), 9),
    "nothing": lambda: None,
    "its own": lambda: Path("mine").write_text("x"),
}
seen = {name: guarded(act, [], folder / "work", folder / "home") for name, act in acts.items()}
print(json.dumps({name: [one.code, one.executed, one.written, one.silent] for name, one in seen.items()}))
"""


def python(*words: str) -> str:
    """Output of a fresh process; one that computes has threads, and cannot be forked."""
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def a_run(folder: Path) -> None:
    """An untrained run; payloads are refused before its arrays are read."""
    run = folder / "base" / "runs" / "forecast" / "untrained"
    (run / "models" / "gru").mkdir(parents=True)
    (run / "models" / "gru" / "arrays.npz").write_bytes(b"")
    with initialize_config_module("conf", version_base="1.3"):
        tree = OmegaConf.to_container(compose("forecast", [*table_overrides("visits.csv"), "model=gru"]), resolve=True)
    assert isinstance(tree, dict)
    (run / "config.yaml").write_text(yaml.safe_dump(tree | {"fitted": {"gru": tree["model"]}}))
    variables = [Variable("score", ("input", "target")), Variable("stage", ("input", "target"), levels=("well", "ill"))]
    manifest = {"schema": Schema((*variables, Variable("age", per_year=1.0))).to_json(), "finished": "now"}
    (run / "manifest.json").write_text(json.dumps(manifest))
    seal(run)


def test_a_dozen_payloads_execute_nothing_and_are_refused_in_one_line(tmp_path):
    a_run(tmp_path)
    record = json.loads(
        python("-m", "benchmarks.hostile", "--folder", str(tmp_path), "--only", *DOZEN).splitlines()[-1]
    )
    [kept] = tmp_path.glob("*.jsonl")
    assert not [row for row in map(json.loads, kept.read_text().splitlines()) if row["wrong"]]
    assert sum(case["payloads"] for case in record["cases"].values()) == len(DOZEN)
    assert record["ratio"] == 1


def test_the_guard_records_executions_and_writes(tmp_path):
    seen = json.loads(python("-c", CONTROL, str(tmp_path)))
    for name in ("a file", "a folder", "a file gone"):
        assert seen[name][2], name
    for name in ("a module", "a program", "a shell", "a variable", "a pickle"):
        assert seen[name][1], name
    assert seen["a crash"][0] is None
    assert seen["nothing"] == [0, [], [], True]
    assert seen["its own"] == [0, [], [], True]


@pytest.mark.parametrize(
    ("seen", "wrong"),
    [
        (Seen(1, "", ["error: no"]), []),
        (Seen(0, "done", []), ["taken"]),
        (Seen(1, "", ["error: no", "error: no"]), ["lines"]),
        (Seen(1, "", ["Traceback (most recent call last):", "error: no"]), ["lines"]),
        (Seen(1, "", []), ["silent", "lines"]),
        (Seen(None, "", ["error: no"]), ["silent", "lines"]),
        (Seen(1, "", ["error: no"], ["import evil"], ["open x"]), ["executed", "written"]),
    ],
)
def test_faults_are_counted(seen, wrong):
    payload = Payload("group", "name", lambda *_: [])
    assert faults(payload, seen, precious=True) == [name for name in FAULTS if name in wrong]
    assert "written" in faults(payload, seen, precious=False)


def test_there_are_enough_payloads_with_distinct_names():
    names = [payload.name for payload in all_payloads()]
    assert len(set(names)) == len(names) >= 150
    assert set(DOZEN) <= set(names)
