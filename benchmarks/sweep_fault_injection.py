"""Does a sweep end well, whatever becomes of its jobs?

    python -m benchmarks.sweep_fault_injection [--jobs 100]

A sweep of small networks (`hydra/launcher=vmap`, in turn in two processes), of which every tenth raises an error, every
twentieth diverges and every twentieth kills its own process; while it is under way its launcher is killed by SIGKILL,
and then the same command is given again. What it ends with is held against a sweep of the same jobs in which nothing
happens. `ratio` is the share of what must hold that does: healthy jobs are done, none was fitted again once it was
done, whoever failed is told with a reason, the ranking is that of the undisturbed sweep.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.measure import RESULTS, commit, machine

SMALL = (
    "model=gru",
    "model._target_=benchmarks.planted.Planted",
    "trust=[benchmarks]",
    "model.head.cell.features=4",
    "model.width=4",
    "optimizer.steps=8",
    "optimizer.round=4",
    "optimizer.batch=8",
    "resamples=100",
    "report=false",
)


def main() -> None:
    """Disturb one sweep, leave another in peace, and keep what they say beside this module."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--jobs", type=int, default=100)
    jobs = asked.parse_args().jobs
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), jobs)
    for name, told in found.items():
        print(f"{name:24} {told}")
    result = {
        "benchmark": "sweep_fault_injection",
        "device": "cpu",
        "ratio": float(np.mean([one for one in found["holds"].values()])),
        "cases": {"sweep_fault_injection": found},
        "machine": machine(),
        "commit": commit(),
    }
    (RESULTS / "sweep_fault_injection.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def planted(jobs: int) -> dict[str, list[int]]:
    """Whose jobs fail, and how: of a hundred ten, five and five."""
    return {
        "crash": list(range(3, jobs, 10)),
        "diverge": list(range(6, jobs, 20)),
        "kill": list(range(11, jobs, 20)),
    }


def measure(folder: Path, jobs: int, more: Sequence[str] = (), kill_after: float = 0.3) -> dict:
    """What became of the disturbed sweep; its launcher is killed when that share of its jobs has ended."""
    faults = planted(jobs)
    calm, _ = Sweep(folder / "calm", jobs, {}, more).run()
    rough = Sweep(folder / "rough", jobs, faults, more)
    killed = rough.killed(int(kill_after * jobs))
    finished = {seed for seed, state in rough.states().items() if state["state"] == "finished"}
    fits_before = rough.fits()
    after, told = rough.run()
    failed = {seed: line["failed"] for seed, line in after.items() if line["failed"] is not None}
    values, whole = ({s: one["value"] for s, one in each.items() if s not in failed} for each in (after, calm))
    ill = {*faults["crash"], *faults["diverge"]}
    fits = rough.fits()
    fitted_since = {seed for (what, seed), times in fits.items() if times > fits_before[what, seed]}
    states = rough.states()
    holds = {
        "healthy jobs are done": set(values) == set(range(jobs)) - ill,
        "none was fitted again": bool(finished) and not finished & fitted_since,
        "failures are told with a reason": set(failed) == ill
        and all("planted" in failed[s] for s in faults["crash"])
        and all("is no number" in failed[s] for s in faults["diverge"]),
        "whoever was killed is known": all(states.get(seed, {}).get("killed", 0) >= 1 for seed in faults["kill"]),
        "the last line counts": f"{len(values)} of {jobs} jobs finished" in told,
        "values are those of calm": values == whole,
        "the ranking is that of calm": sorted(values, key=values.__getitem__) == sorted(whole, key=whole.__getitem__),
    }
    return {
        "jobs": jobs,
        "planted": {name: len(seeds) for name, seeds in faults.items()},
        "ended_when_killed": killed,
        "done": len(values),
        "fits_begun": sum(n for (what, _), n in fits.items() if what == "begun"),
        "holds": holds,
    }


class Sweep:
    """A sweep over seeds in a folder of its own, as a command that can be given again."""

    def __init__(self, folder: Path, jobs: int, faults: Mapping[str, list[int]], more: Sequence[str]):
        self.folder = folder
        folder.mkdir(parents=True)
        (folder / "fits.txt").touch()
        told = ",".join(f"{name}:{seeds}" for name, seeds in faults.items()).replace(" ", "")
        self._command = [
            *(sys.executable, "-m", "experiments.forecast", "-m", "hydra/launcher=vmap", "hydra.launcher.workers=2"),
            *(*SMALL, *more, f"runs={folder}/runs", f"data.store={folder.parent}/cohort", f"seed=range({jobs})"),
            *(f"+model.faults={{{told}}}", f"+model.folder={folder}", f"+model.seeds={jobs}"),
        ]

    def run(self) -> tuple[dict[int, dict], str]:
        """Each job's line by its seed, and the last line that was said."""
        done = subprocess.run(self._command, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1) or "sweep: " not in done.stdout:
            raise RuntimeError(done.stderr[-3000:])
        return self._lines(), done.stdout.splitlines()[-1]

    def killed(self, after: int) -> int:
        """Kill the launcher when so many jobs have ended; how many had."""
        with (self.folder / "stderr").open("w") as stderr:
            life = subprocess.Popen(self._command, stdout=stderr, stderr=stderr)
        while len(self._lines()) < after:
            if life.poll() is not None:
                raise RuntimeError((self.folder / "stderr").read_text()[-3000:])
            time.sleep(0.02)
        life.send_signal(signal.SIGKILL)
        life.wait()
        return len(self._lines())

    def fits(self) -> Counter[tuple[str, int]]:
        """How often the fit of each seed began and ended."""
        lines = (self.folder / "fits.txt").read_text().splitlines()
        return Counter((what, int(seed)) for what, seed in map(str.split, lines))

    def states(self) -> dict[int, dict]:
        """What each run says of itself, by its seed."""
        found = {}
        for file in (self.folder / "runs" / "forecast").glob("*/status.json"):
            seed = next(line for line in (file.parent / "config.yaml").read_text().splitlines() if line[:5] == "seed:")
            found[int(seed.split()[1])] = json.loads(file.read_text())
        return found

    def _lines(self) -> dict[int, dict]:
        """Of each job the line of the newest sweep that has one."""
        found = {}
        for file in sorted((self.folder / "runs").glob("sweeps/*/jobs.jsonl")):
            for line in map(json.loads, file.read_text().splitlines()):
                seed = next(word for word in line["overrides"] if word.startswith("seed="))
                found[int(seed.split("=")[1])] = line
        return found


if __name__ == "__main__":
    main()
