"""Equality of killed and resumed runs with an uninterrupted one.

    python -m benchmarks.resume [--kills 100]

A small training on a CPU (3-D CNN and GRU on scans, with dropout, augmentation, a moving average) is killed by SIGKILL
repeatedly, at random moments and, every fifth time, during the write of a checkpoint; the same command resumes it each
time. Its end is compared with an uninterrupted run: parameters, momenta, moving average, best parameters, random keys,
forecasts (in units of the last place, ulp) and metrics.jsonl (without wall-clock times). As a negative control one run
resumes with a random key other than its checkpoint's. `ratio` is the share of kills after which the run resumed from
its last checkpoint and ended bit-equal.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.measure import RESULTS, commit, machine

STEPS, EVERY = 120, 8  # of a run; between checkpoints
KILLS_PER_RUN, MAX_STEPS = 10, 20  # a kill occurs at most MAX_STEPS steps after a resumption
TRAINING = (
    "model.head.cell.features=8",
    "model.width=8",
    "training.batch=4",
    "training.eval_every=20",
    "training.patience=99",
    "training.dropout=0.2",
    "training.ema=0.9",
    "training.checkpoint_seconds=1e9",
    f"training.checkpoint_steps={EVERY}",
)
RECIPE = ("model=cnn_gru", "training=scans", "model.encoder.width=4", *TRAINING)


def main() -> None:
    """Kill, compare and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    kills = parser.parse_args().kills
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/xla"
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        found = measure(Path(folder), kills)
    for name, case in found.items():
        print(f"{name:8} " + ", ".join(f"{key} {value}" for key, value in case.items()))
    cases = [found["random"], found["aimed"]]
    result = {
        "benchmark": "resume",
        "device": "cpu",
        "ratio": sum(case["bit_equal"] for case in cases) / sum(case["kills"] for case in cases),
        "cases": found,
        "steps": STEPS,
        "interval_steps": EVERY,
        "machine": machine(),
        "commit": commit(),
    }
    (RESULTS / "resume.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def measure(
    folder: Path, kills: int, steps: int = STEPS, seed: int = 0, recipe: Sequence[str] = RECIPE
) -> dict[str, dict]:
    """Summarise the kills, a fifth of them aimed at a write, and the negative control."""
    draw = random.Random(seed)
    cohort(folder / "cohort")
    whole = Run(folder, "whole", steps, *recipe).end()
    deaths: list[Death] = []
    for first in range(0, kills, KILLS_PER_RUN):
        run = Run(folder, f"killed{first}", steps, *recipe)
        killed = [run.kill(draw, aimed=number % 5 == 0) for number in range(first, min(first + KILLS_PER_RUN, kills))]
        ulp, same = differences(run.end(), whole)
        deaths += [
            replace(death, resumed=run.starts[i + 1] == death.committed, ulp=ulp, same=same)
            for i, death in enumerate(killed)
        ]
    forgetful = Run(folder, "control", steps, "--forget", *recipe)
    assert forgetful.kill(draw, aimed=False, ahead=steps // 2).committed  # a checkpoint with a key exists
    ulp, same = differences(forgetful.end(), whole)
    return {
        "random": _summary([death for death in deaths if not death.aimed]),
        "aimed": _summary([death for death in deaths if death.aimed]),
        "control": {"kills": 1, "ulp": ulp, "differs": not same},
    }


@dataclass(frozen=True)
class Death:
    """One kill: the step, the last checkpoint, whether a write was interrupted; then the outcome of the resumption."""

    aimed: bool
    step: int
    committed: int
    inside: bool
    resumed: bool = False
    ulp: int = -1
    same: bool = False


class Run:
    """One training that may be killed several times; `starts` are the steps at which its processes began."""

    def __init__(self, folder: Path, name: str, steps: int, *options: str):
        self.folder, self.steps, self.starts = folder / name, steps, []
        here = [sys.executable, "-m", "benchmarks.resume", "--train"]
        self._command = [*here, folder / "cohort", self.folder, str(steps), *options]
        self.folder.mkdir()

    def end(self) -> Path:
        """Run the training to its end; return its folder."""
        life = subprocess.run(self._command, capture_output=True, text=True, check=False)
        if life.returncode:
            raise RuntimeError(life.stderr[-3000:])
        self._note()
        return self.folder

    def kill(self, draw: random.Random, aimed: bool, ahead: int | None = None) -> Death:
        """Start the training and kill it some steps later or, if aimed, during the write of a checkpoint."""
        (self.folder / "step").unlink(missing_ok=True)
        with (self.folder / "stderr").open("w") as stderr:
            life = subprocess.Popen(self._command, stdout=stderr, stderr=stderr)
        ahead = ahead or draw.randint(1, MAX_STEPS)
        self._wait(life, lambda: self._done() >= (1 if aimed else ahead))
        if aimed:
            self._wait(life, lambda: not self._unfinished())  # the rest of an interrupted write is removed
            self._wait(life, lambda: bool(self._unfinished()))
        time.sleep(draw.uniform(0, 0.02))
        life.send_signal(signal.SIGKILL)
        life.wait()
        self._note()
        step = (self._steps() or (0, 0))[1]
        return Death(aimed, step, max(self._committed(), default=0), bool(self._unfinished()))

    def _wait(self, life: subprocess.Popen, until: Callable[[], bool]) -> None:
        while not until():
            if life.poll() is not None:
                if life.returncode:
                    raise RuntimeError((self.folder / "stderr").read_text()[-3000:])
                return
            time.sleep(0.0005)

    def _note(self) -> None:
        start = self._steps()
        self.starts.append(self.steps if start is None else start[0])

    def _steps(self) -> tuple[int, int] | None:
        """First and last step of this process; None before the first."""
        file = self.folder / "step"
        words = file.read_text().split() if file.exists() else []
        return (int(words[0]), int(words[1])) if len(words) == 2 else None

    def _done(self) -> int:
        """Steps of this process."""
        start, step = self._steps() or (0, 0)
        return step - start

    def _committed(self) -> list[int]:
        return [int(path.stem) for path in (self.folder / "checkpoints").glob("*.npz")]

    def _unfinished(self) -> list[Path]:
        return list((self.folder / "checkpoints").glob("*.new"))


def differences(first: Path, second: Path) -> tuple[int, bool]:
    """Largest difference of any number, in ulp, and whether arrays and metrics are equal."""
    with np.load(first / "ended.npz") as mine, np.load(second / "ended.npz") as theirs:
        if sorted(mine) != sorted(theirs):
            return -1, False
        greatest = max(ulps(mine[name], theirs[name]) for name in theirs)
    return greatest, greatest == 0 and curve(first) == curve(second)


def ulps(first: np.ndarray, second: np.ndarray) -> int:
    """Largest difference of two arrays, in representable numbers; for integers, the plain difference."""

    def ordered(x: np.ndarray) -> np.ndarray:
        if not np.issubdtype(x.dtype, np.floating):
            return x.astype(np.int64)
        bits = x.view(f"i{x.dtype.itemsize}").astype(np.int64)
        return np.where(bits < 0, np.iinfo(f"i{x.dtype.itemsize}").min - bits, bits)

    return int(np.abs(ordered(first) - ordered(second)).max(initial=0))


def curve(folder: Path) -> list[dict]:
    """Rows of metrics.jsonl without wall-clock times."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def _summary(deaths: list[Death]) -> dict:
    return {
        "kills": len(deaths),
        "inside_a_write": sum(death.inside for death in deaths),
        "resumed": sum(death.resumed for death in deaths),
        "bit_equal": sum(death.resumed and death.same for death in deaths),
        "ulp": max((death.ulp for death in deaths), default=0),
        "most_steps_lost": max((death.step - death.committed for death in deaths), default=0),
    }


def cohort(folder: Path) -> None:
    """Write scans whose brightness follows a score, for 24 subjects of 2 to 4 visits."""
    from framework.data.cohort.schema import Modality, Scan, Schema, Subject, Variable, Visit
    from framework.data.cohort.store import write

    rng = np.random.default_rng(0)

    def subject(index: int) -> Subject:
        level, visits = rng.normal(20, 3), []
        for j in range(int(rng.integers(2, 5))):
            level -= rng.uniform(0.5, 1.5)
            voxels = rng.normal(level, 3, (12, 12, 12, 1)).clip(0).astype(np.float32)
            visits.append(Visit(f"v{j}", float(j), {"score": float(level)}, {"t1": Scan(voxels)}))
        return Subject(f"s{index:02}", tuple(visits))

    schema = Schema(
        (Variable("score", ("input", "target"), "points"),), modalities=(Modality("t1", (12, 12, 12), (1.0,) * 3),)
    )
    write(str(folder), schema, (subject(index) for index in range(24)))


def train(store: Path, folder: Path, steps: int, forget: bool, recipe: Sequence[str]) -> None:
    """Run one process of the training: train, forecast and save the final state."""
    import jax
    from hydra import compose, initialize_config_module
    from hydra.utils import instantiate

    from framework.data.cohort.store import open_cohort
    from framework.data.queries.examples import Examples
    from framework.data.queries.layout import layout
    from framework.data.splits.split import Split
    from framework.forecast.predict import answers
    from framework.runs.progress import TrainingProgress

    with initialize_config_module("conf", version_base="1.3"):
        model = instantiate(compose("forecast", [*recipe, f"training.steps={steps}"]).model, _convert_="all")
    opened = open_cohort(str(store))
    examples = Examples(opened, layout(opened.schema, ["score"]))
    place = np.arange(len(opened.subjects))
    split = Split(place < 16, (place >= 16) & (place < 20), place >= 20)
    kept = _record_steps(folder, forget)
    with TrainingProgress("resume", folder / "metrics.jsonl") as log:
        fitted = model.fit(examples, split, jax.random.key(0), folder=folder / "checkpoints", log=log)
    forecasts = answers(fitted, examples, place, examples.eval_queries)
    named = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(kept["state"])}
    np.savez(folder / "ended.npz", **{f"forecast {name}": numbers for name, numbers in forecasts.items()}, **named)


def _record_steps(folder: Path, forget: bool) -> dict:
    """Record each step in a file that outlives the process, and keep the last state saved or restored."""
    import jax

    from framework.train.checkpoint import Checkpoints
    from framework.train.cost.throughput import Meter

    kept: dict = {}
    save, resume, timed = Checkpoints.save, Checkpoints.resume, Meter.time

    def saving(self, step, state, reader=None):
        kept["state"] = jax.tree.map(np.asarray, _with_key_data(state))
        save(self, step, state, reader)

    def resuming(self, like, reader=None):
        found = resume(self, like, reader)
        if found is not None and forget:
            members = replace(found[1].members, key=jax.random.split(jax.random.key(os.getpid()), 1))
            found = found[0], replace(found[1], members=members)
        if found is not None:
            kept["state"], kept["start"] = jax.tree.map(np.asarray, _with_key_data(found[1])), found[0]
        return found

    def timing(self, *args):
        result = timed(self, *args)
        aside = folder / "step.new"
        aside.write_text(f"{kept.get('start', 0)} {int(result[0].step.max())}")
        os.replace(aside, folder / "step")
        return result

    Checkpoints.save, Checkpoints.resume, Meter.time = saving, resuming, timing
    return kept


def _with_key_data(state):
    """Return the state with the data of its random keys."""
    import jax

    return replace(state, members=replace(state.members, key=jax.random.key_data(state.members.key)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--train"]:
        store, folder, steps, *more = sys.argv[2:]
        recipe = [word for word in more if word != "--forget"]
        train(Path(store), Path(folder), int(steps), "--forget" in more, recipe)
    else:
        main()
