"""Integrity of data after commands are killed: `python -m benchmarks.kills [--kills 50] [--of ingest ...]`.

Each command is killed by SIGKILL at random moments: an ingest, an overwrite of a cohort by another, an append, a
training, a report. After each kill, a cohort must be absent or the complete old or new one, with the ledger of its
subjects, and a page must be complete. Then the same command is given again and its result is compared with that of an
undisturbed one: the cohort's fingerprint, every scan, the ledger; a run's results by their digests, losses (without
wall-clock times); the page byte by byte; no further files. A training is killed ten times in sequence before it may
end, a report five times. `ratio` is the share of kills after which all of this holds.

Each command is a child of this process, forked after the imports, so that a kill costs no start.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import experiments.forecast
import experiments.report
from benchmarks import run_faults
from benchmarks.measure import RESULTS, commit, machine
from benchmarks.store_faults import RandomSubjects, stamped_reader
from framework.data.cohort.store import exists, open_cohort, verify
from framework.data.ingest.base import ingest, ledger_of
from framework.errors import UserError

IN_TURN = {"training": 10, "report": 5}  # kills before a command may end
TIMEOUT = 300.0  # s; a child that takes longer hangs
VOLATILE = ("manifest.json", "metrics.jsonl", "cost.json")  # contain times


def run_in_child(function: Callable[[], object], kill_after: float | None = None) -> tuple[bool, object]:
    """Run a function in a child; return whether it was killed, and its result. Raises RuntimeError if it failed."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "returned.json"
        child = os.fork()
        if child == 0:
            status = 1
            try:
                quiet = os.open(os.devnull, os.O_WRONLY)
                os.dup2(quiet, 1)
                returned = function()
                file.write_text(json.dumps(returned))
                status = 0
            except BaseException:
                (Path(folder) / "failed").write_text(traceback.format_exc())
            finally:
                os._exit(status)
        end = time.monotonic() + (TIMEOUT if kill_after is None else kill_after)
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done or time.monotonic() > end:
                break
            time.sleep(0.001)
        if not done:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if kill_after is None:
                raise RuntimeError(f"a command hangs for {TIMEOUT:.0f} s")
        if os.WIFSIGNALED(status):
            return True, None
        if status:
            raise RuntimeError((Path(folder) / "failed").read_text()[-3000:])
        return False, json.loads(file.read_text())


def command(name: str, *overrides: str) -> None:
    """Run a command as in a shell. Raises RuntimeError if it fails."""
    sys.argv = [name, *overrides]
    try:
        {"forecast": experiments.forecast.main, "report": experiments.report.main}[name]()
    except SystemExit as ended:
        if ended.code:
            raise RuntimeError(f"{name} ended with {ended.code}") from ended


def cohort(store: Path) -> dict | None:
    """Verify a cohort; return its fingerprint and ledger, or None where there is none."""
    if not exists(str(store)):
        return None
    opened = open_cohort(str(store))
    faults = list(verify(str(store)))
    if faults or list(ledger_of(str(store)).used()) != list(opened.subjects):
        raise RuntimeError(f"{store}: {faults or 'the ledger is of other subjects'}")
    return {"fingerprint": opened.fingerprint, "ledger": [str(one) for one in ledger_of(str(store)).entries]}


class StoreCommand:
    """A command that writes a cohort: the state before it, the command, and the states allowed after a kill."""

    def __init__(self, folder: Path, if_exists: str):
        folder.mkdir()
        self.if_exists, self._store = if_exists, folder / "here" / "c"
        self._first, self._second = stamped_reader(folder), stamped_reader(folder, "more")
        self._before, self._after = (folder / name / "c" for name in ("before", "after"))
        run_in_child(lambda: self._make(self._first, self._before))
        run_in_child(lambda: self._make(self._first, self._after) if if_exists == "append" else None)
        run_in_child(lambda: self._make(self._second, self._after))
        self.whole = {
            name: run_in_child(lambda at=at: cohort(at))[1] for name, at in vars(self).items() if name[1:] in STATES
        }

    def _make(self, source: RandomSubjects, store: Path) -> None:
        ingest(source, str(store), self.if_exists if exists(str(store)) else "refuse")

    def reset(self) -> None:
        """Restore the state before the command."""
        shutil.rmtree(self._store.parent, ignore_errors=True)
        if self.if_exists == "refuse":
            self._store.parent.mkdir(parents=True)
        else:
            shutil.copytree(self._before.parent, self._store.parent)

    def do(self) -> None:
        """Run the command."""
        self._make(self._second, self._store)

    def again(self) -> None:
        """Run the command again; if it had finished, it may refuse."""
        done = self.if_exists != "overwrite" and cohort(self._store) == self.whole["_after"]
        try:
            self.do()
        except UserError:
            if not done:
                raise

    def sound(self) -> bool:
        """Whether nothing was lost by a kill."""
        found = cohort(self._store)
        return found == self.whole["_after"] or found == (None if self.if_exists == "refuse" else self.whole["_before"])

    def equal(self) -> bool:
        """Whether the result is that of an undisturbed command, without further files."""
        beside = sorted(file.name for file in self._store.parent.iterdir())
        inside = sorted(file.name for file in self._store.iterdir())
        wanted = sorted(file.name for file in self._after.iterdir())
        return cohort(self._store) == self.whole["_after"] and beside == ["c"] and inside == wanted


STATES = ("before", "after")


class Training:
    """A small network trained by the command, in its own folder of runs."""

    def __init__(self, folder: Path):
        folder.mkdir()
        self._runs, self._folder = folder / "here", folder
        self._overrides = [*run_faults.table_overrides(folder), "data.targets=[score]", "split.folds=3", "model=gru"]
        more = ("training.checkpoint_steps=2", "training.checkpoint_seconds=1e9", "training.steps=60")
        self._overrides += [*run_faults.SMALL, *more, "training.patience=99"]
        for _ in range(2):  # the first time compiles the programs
            self.reset()
            run_in_child(self.do)
        self._whole = self._found()

    def _found(self) -> dict:
        [run] = (self._runs / "forecast").iterdir()
        files = json.loads((run / "digests.json").read_text())["files"]
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        losses = [[row["model"], row["member"], row["step"], row["train"], row["validation"]] for row in rows]
        state = json.loads((run / "status.json").read_text())["state"]
        rest = sorted(file.name for file in run.rglob("*") if file.name.endswith(".new") or file.name == "checkpoints")
        return {"files": {n: d for n, d in files.items() if n not in VOLATILE}, "losses": losses, "as": [state, *rest]}

    def reset(self) -> None:
        shutil.rmtree(self._runs, ignore_errors=True)

    def do(self) -> None:
        command("forecast", *self._overrides, f"runs={self._runs}")

    again = do

    def sound(self) -> bool:
        """Whether the status of a killed run is `running` or `finished`."""
        for file in self._runs.glob("forecast/*/status.json"):
            if json.loads(file.read_text())["state"] not in ("running", "finished"):
                return False
        return True

    def equal(self) -> bool:
        return self._found() == self._whole


class Report:
    """The report of a finished run, written again."""

    def __init__(self, folder: Path):
        folder.mkdir()
        whole = run_faults.make(folder)
        self._run = folder / "here"
        shutil.copytree(whole, self._run)
        run_in_child(self.do)
        self._whole = self._files()

    def _files(self) -> dict[str, bytes]:
        files = (file for file in self._run.rglob("*") if file.is_file() and file.name != "status.json")
        return {str(file.relative_to(self._run)): file.read_bytes() for file in files}

    def reset(self) -> None:
        """Remove the page, or keep the previous, equal one."""
        if random.random() < 0.5:
            (self._run / "report.html").unlink(missing_ok=True)

    def do(self) -> None:
        command("report", f"run={self._run}")

    again = do

    def sound(self) -> bool:
        page = self._run / "report.html"
        return not page.exists() or page.read_bytes() == self._whole["report.html"]

    def equal(self) -> bool:
        return self._files() == self._whole


COMMANDS: Mapping[str, Callable[[Path], StoreCommand | Training | Report]] = {
    "ingest": lambda folder: StoreCommand(folder, "refuse"),
    "overwrite": lambda folder: StoreCommand(folder, "overwrite"),
    "append": lambda folder: StoreCommand(folder, "append"),
    "training": Training,
    "report": Report,
}


def measure(name: str, folder: Path, kills: int, seed: int = 0) -> dict:
    """Kill a command repeatedly; count the kills after which nothing was lost and the repetition was equal."""
    draw, began = random.Random(seed), time.monotonic()
    one, in_turn = COMMANDS[name](folder / name), IN_TURN.get(name, 1)
    one.reset()
    start = time.monotonic()
    run_in_child(one.do)
    life = time.monotonic() - start
    case: dict = {"kills": 0, "sound": 0, "equal": 0, "ended_before": 0, "life_seconds": round(life, 3), "ill": []}
    while case["kills"] < kills:
        one.reset()
        row, done = 0, False
        while row < min(in_turn, kills - case["kills"]) and not done:
            killed, _ = run_in_child(one.do, draw.uniform(0, life))
            done = not killed
            case["ended_before"] += done
            if killed:
                row += 1
                case["sound"] += _holds(one.sound, f"{name}, kill {case['kills'] + row}, after it", case)
        if row:
            case["kills"] += row
            ends = _holds(lambda: one.again() or one.equal(), f"{name}, kill {case['kills']}, given again", case)
            case["equal"] += row * ends
    return case | {"seconds": round(time.monotonic() - began)}


def _holds(check: Callable[[], bool], where: str, case: dict) -> bool:
    try:
        held = run_in_child(check)[1] is True
        message = "differs from the undisturbed result"
    except RuntimeError as error:
        held, message = False, str(error).splitlines()[-1] if str(error) else "failed"
    if not held:
        case["ill"].append(f"{where}: {message}")
    return held


def main() -> None:
    """Kill, compare and write the record; commands not requested keep their last results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description="Integrity after kills.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--of", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    args, file = parser.parse_args(), RESULTS / "kills.json"
    kept = json.loads(file.read_text())["cases"] if file.exists() else {}
    cases = {name: kept[name] for name in COMMANDS if name in kept and name not in args.of}
    for name in args.of:
        with TemporaryDirectory() as folder:
            os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/xla"
            cases[name] = measure(name, Path(folder), args.kills)
        print(f"{name:10} " + ", ".join(f"{key} {value}" for key, value in cases[name].items()), flush=True)
        result = {
            "benchmark": "kills",
            "device": "cpu",
            "ratio": sum(min(case["sound"], case["equal"]) for case in cases.values())
            / sum(case["kills"] for case in cases.values()),
            "cases": cases,
            "machine": machine(),
            "commit": commit(),
        }
        file.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    sys.exit(main())
