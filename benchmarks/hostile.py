"""Security of opening received data: `python -m benchmarks.hostile`.

Runs, configurations, tables and arrays made to run code, to write or delete files, or to end a command without a
message, each opened by the command that a user would open it with, in a process of its own under an audit hook
(`benchmarks/guard.py`; the payloads are in `benchmarks/payloads/`). Counted for each group: payloads, and those that
executed something, changed a file outside the working folder, ended silently, were answered by anything but one line,
or were accepted where refusal is expected (`taken`). The ratio is the share of payloads with none of these faults.

With `--folder` the outcomes are kept there, and a benchmark that was stopped continues. Writes
results/hostile-cpu.json. With `--only` the named payloads are opened and the record is only printed.
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
from benchmarks.payloads import all_payloads
from benchmarks.payloads.making import Base, Payload
from framework.runs.folder import sources_digest

FAULTS = ("executed", "written", "silent", "lines", "taken")
VICTIM = "precious.txt"
COMMANDS = ("forecast", "predict", "report", "ingest", "compare")


def faults(payload: Payload, seen: Seen, precious: bool) -> list[str]:
    """Faults of one payload; `precious` is whether the file that it was to destroy is unchanged."""
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
    """Write one payload into a folder and open it; return the observations and the faults."""
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
    return seen, faults(payload, seen, precious) + [f for f in payload.after(work)]


def prepared(folder: Path) -> Base:
    """Make an honest run, from which payloads start, unless the folder holds one."""
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
    """Import the modules of the commands before processes are forked; compute nothing, as threads do not survive it."""
    for name in COMMANDS:
        importlib.import_module(f"experiments.{name}")
    for name in ("runs.execute", "runs.predict", "cli.report", "runs.pretrain", "sweeps.batched"):
        importlib.import_module(f"framework.{name}")
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        from hydra.core.plugins import Plugins

        Plugins.instance()


def measured(chosen: Iterator[Payload], base: Base, folder: Path, kept: Path | None) -> dict[str, dict]:
    """Counts of payloads and of faults by group."""
    done = {}
    if kept is not None and kept.exists():
        done = {row["name"]: row for row in map(json.loads, kept.read_text().splitlines())}
    counts: dict[str, Counter] = {}
    for payload in chosen:
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
    """Share of payloads without a fault."""
    return sum(case["ok"] for case in cases.values()) / max(sum(case["payloads"] for case in cases.values()), 1)


def main() -> None:
    """Open all payloads, print a line per group and write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description="Opening of hostile data.")
    parser.add_argument("--folder", help="where outcomes are kept, so that a stopped benchmark continues")
    parser.add_argument("--only", nargs="+", help="names of payloads; the record is printed, not written")
    args = parser.parse_args()
    folder = args.folder
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    load()
    with TemporaryDirectory() as temporary:
        place = Path(folder or temporary).absolute()
        base = prepared(place / "base")
        modules = (*sorted(Path(payloads.__file__).parent.glob("*.py")), Path(guard.__file__))
        sources = b"".join(file.read_bytes() for file in modules) + sources_digest().encode()
        kept = place / f"{hashlib.sha256(sources).hexdigest()[:12]}.jsonl"
        chosen = (payload for payload in all_payloads() if args.only is None or payload.name in args.only)
        cases = measured(chosen, base, place, kept)
    for name, case in cases.items():
        print(f"{name:28} " + "  ".join(f"{key} {value}" for key, value in case.items()), flush=True)
    environment = {
        "device": "cpu",
        "versions": {name: version(name) for name in ("jax", "hydra-core", "omegaconf", "numpy")},
    }
    record = measure.record("hostile", environment, cases) | {"ratio": ratio(cases)}
    if args.only is None:
        measure.write(record)
    else:
        print(json.dumps(record, ensure_ascii=False))


if __name__ == "__main__":
    main()
