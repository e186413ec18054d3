"""Is what is received only data? `python -m benchmarks.hostile`.

Runs, configurations, tables and arrays that somebody made to run code, to write or to delete files, or to end a command
without a word, each opened by the command that a user would open it with, in a process of its own under an audit hook
(`benchmarks/guard.py`; the payloads are in `benchmarks/payloads.py`). Of each group: how many there are, and how many
executed something, changed a file outside the folder that one works in, ended silently, were answered by anything but
one line, or were taken though they should have been refused. The ratio is the share of those that did none of it.

With `--folder` what is done is kept there, and a run that was stopped goes on. Writes results/hostile-cpu.json. With
`--only` some payloads are opened, and nothing is kept of it.
"""

import argparse
import hashlib
import importlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import guard, measure, payloads
from benchmarks.guard import Seen, guarded
from benchmarks.payloads import Base, Payload
from framework.runs.folder import sources_digest

FAULTS = ("executed", "written", "silent", "lines", "taken")
VICTIM = "precious.txt"
COMMANDS = ("forecast", "predict", "report", "ingest", "compare")


def faults(payload: Payload, seen: Seen, precious: bool) -> list[str]:
    """What went wrong with one; `precious` says whether the file that it was to destroy is as it was."""
    found = {
        "executed": bool(seen.executed),
        "written": bool(seen.written) or not precious,
        "silent": seen.silent,
        "lines": payload.refused and seen.code != 0 and not seen.refused,
        "taken": payload.refused and seen.code == 0,
    }
    if not payload.refused:
        found["lines"] = seen.code not in (0, 1) or (seen.code == 1 and not seen.refused)
    return [name for name in FAULTS if found[name]]


def opened(payload: Payload, base: Base, folder: Path) -> tuple[Seen, list[str]]:
    """One payload brought into a folder and opened as a user would; what was seen, and what went wrong."""
    shutil.rmtree(folder, ignore_errors=True)
    work, home = folder / "work", folder / "home"
    for place in (work, home, folder / "victim"):
        place.mkdir(parents=True)
    victim = folder / "victim" / VICTIM
    victim.write_text("precious\n")
    arguments = payload.bring(base, work, folder / "victim")
    main = importlib.import_module(f"experiments.{payload.command}").main
    seen = guarded(main, arguments, work, home)
    left = [file.name for file in (folder / "victim").iterdir()]
    precious = left == [VICTIM] and victim.read_text() == "precious\n"
    return seen, faults(payload, seen, precious) + [f for f in payload.after(work) if f]


def prepared(folder: Path) -> Base:
    """A run that is honest, and the tables it was made of, for payloads to start from."""
    folder.mkdir(parents=True, exist_ok=True)
    base = Base.at(folder)
    if not base.finished:
        home = folder / "home"
        home.mkdir(exist_ok=True)
        for command, arguments in base.commands():
            main = importlib.import_module(f"experiments.{command}").main
            seen = guarded(main, arguments, folder, home)
            if seen.code != 0:
                raise RuntimeError(f"the honest run failed: {seen.err[-1:]}")
    return Base.at(folder)


def load() -> None:
    """All that commands load, before processes are forked; nothing is computed, which would not survive a fork."""
    for name in COMMANDS:
        importlib.import_module(f"experiments.{name}")
    for name in ("runs.execute", "runs.predict", "cli.report", "runs.pretrain", "sweeps.batched"):
        importlib.import_module(f"framework.{name}")
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        from hydra.core.plugins import Plugins

        Plugins.instance()


def measured(names: Iterator[Payload], base: Base, folder: Path, kept: Path | None) -> dict[str, dict]:
    """The cases: of each group of payloads how many there are and what went wrong with how many."""
    done = {}
    if kept is not None and kept.exists():
        done = {row["name"]: row for row in map(json.loads, kept.read_text().splitlines())}
    counts: dict[str, Counter] = {}
    for payload in names:
        row = done.get(payload.name)
        if row is None:
            seen, wrong = opened(payload, base, folder / "case")
            row = {"name": payload.name, "wrong": wrong, "code": seen.code, "said": (seen.err or [""])[-1][:300]}
            row |= {"executed": seen.executed[:3], "written": seen.written[:3]}
            if kept is not None:
                with kept.open("a") as file:
                    file.write(json.dumps(row) + "\n")
        if row["wrong"]:
            print(f"{payload.name}: {row}", file=sys.stderr, flush=True)
        group = counts.setdefault(payload.group, Counter(payloads=0, ok=0, **dict.fromkeys(FAULTS, 0)))
        group["payloads"] += 1
        group["ok"] += not row["wrong"]
        group.update(row["wrong"])
    return {name: dict(count) for name, count in counts.items()}


def ratio(cases: Mapping[str, Mapping]) -> float:
    """The share of payloads with which nothing went wrong."""
    return sum(case["ok"] for case in cases.values()) / max(sum(case["payloads"] for case in cases.values()), 1)


def main() -> None:
    """All payloads, a line a group, and the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description="Received data that attack.")
    parser.add_argument("--folder", help="where what is done is kept; a run that was stopped goes on")
    parser.add_argument("--only", nargs="+", help="payloads by their names; the record is printed and not kept")
    told = parser.parse_args()
    folder = told.folder
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    load()
    with TemporaryDirectory() as temporary:
        place = Path(folder or temporary).absolute()
        base = prepared(place / "base")
        own = b"".join(Path(one.__file__).read_bytes() for one in (payloads, guard)) + sources_digest().encode()
        kept = place / f"{hashlib.sha256(own).hexdigest()[:12]}.jsonl"
        chosen = (one for one in payloads.every() if told.only is None or one.name in told.only)
        cases = measured(chosen, base, place, kept)
    for name, case in cases.items():
        print(f"{name:28} " + "  ".join(f"{key} {value}" for key, value in case.items()), flush=True)
    environment = {
        "device": "cpu",
        "versions": {name: version(name) for name in ("jax", "hydra-core", "omegaconf", "numpy")},
    }
    record = measure.record("hostile", environment, cases) | {"ratio": ratio(cases)}
    if told.only is None:
        measure.write(record)
    else:
        print(json.dumps(record, ensure_ascii=False))


if __name__ == "__main__":
    main()
