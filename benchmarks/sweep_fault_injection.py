"""Outcome of a sweep with injected faults: jobs that fail, processes and a launcher that are killed.

    python -m benchmarks.sweep_fault_injection [--jobs 100]

A sweep of small networks (`hydra/launcher=vmap`, in turn in two processes), of which every tenth raises an error, every
twentieth diverges and every twentieth kills its own process; while it runs, its launcher is killed by SIGKILL, and the
same command is then given again. Its end is compared with a sweep of the same jobs without faults. `ratio` is the share
of the requirements that hold: healthy jobs finish, no finished job is fitted again, failed jobs are reported with a
reason, and the ranking is that of the sweep without faults.
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
    "training.steps=8",
    "training.eval_every=4",
    "training.batch=8",
    "resamples=100",
    "report=false",
)


def main() -> None:
    """Run a sweep with faults and one without, and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=100)
    jobs = parser.parse_args().jobs
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), jobs)
    for name, value in found.items():
        print(f"{name:24} {value}")
    result = {
        "benchmark": "sweep_fault_injection",
        "device": "cpu",
        "ratio": float(np.mean(list(found["holds"].values()))),
        "cases": {"sweep_fault_injection": found},
        "machine": machine(),
        "commit": commit(),
    }
    (RESULTS / "sweep_fault_injection.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def planted(jobs: int) -> dict[str, list[int]]:
    """Jobs that fail, by kind of fault: ten, five and five of a hundred."""
    return {
        "crash": list(range(3, jobs, 10)),
        "diverge": list(range(6, jobs, 20)),
        "kill": list(range(11, jobs, 20)),
    }


def measure(folder: Path, jobs: int, more: Sequence[str] = (), kill_after: float = 0.3) -> dict:
    """Compare a sweep with faults, whose launcher is killed once a share of its jobs has ended, with one without."""
    faults = planted(jobs)
    undisturbed, _ = Sweep(folder / "calm", jobs, {}, more).run()
    disturbed = Sweep(folder / "rough", jobs, faults, more)
    killed = disturbed.kill(int(kill_after * jobs))
    finished = {seed for seed, state in disturbed.states().items() if state["state"] == "finished"}
    fits_before = disturbed.fits()
    after, summary = disturbed.run()
    failed = {seed: line["failed"] for seed, line in after.items() if line["failed"] is not None}
    values, expected = (
        {seed: line["value"] for seed, line in lines.items() if seed not in failed} for lines in (after, undisturbed)
    )
    faulty = {*faults["crash"], *faults["diverge"]}
    fits = disturbed.fits()
    fitted_since = {seed for (event, seed), times in fits.items() if times > fits_before[event, seed]}
    states = disturbed.states()
    holds = {
        "healthy jobs are done": set(values) == set(range(jobs)) - faulty,
        "none was fitted again": bool(finished) and not finished & fitted_since,
        "failures are reported with a reason": set(failed) == faulty
        and all("planted" in failed[s] for s in faults["crash"])
        and all("the loss is" in failed[s] for s in faults["diverge"]),
        "killed processes are recorded": all(states.get(seed, {}).get("killed", 0) >= 1 for seed in faults["kill"]),
        "the last line counts": f"{len(values)} of {jobs} jobs finished" in summary,
        "values are those without faults": values == expected,
        "the ranking is that without faults": sorted(values, key=values.__getitem__)
        == sorted(expected, key=expected.__getitem__),
    }
    return {
        "jobs": jobs,
        "planted": {name: len(seeds) for name, seeds in faults.items()},
        "ended_when_killed": killed,
        "done": len(values),
        "fits_begun": sum(n for (event, _), n in fits.items() if event == "begun"),
        "holds": holds,
    }


class Sweep:
    """A sweep over seeds in its own folder, as a command that can be given again."""

    def __init__(self, folder: Path, jobs: int, faults: Mapping[str, list[int]], more: Sequence[str]):
        self.folder = folder
        folder.mkdir(parents=True)
        (folder / "fits.txt").touch()
        planted_faults = ",".join(f"{name}:{seeds}" for name, seeds in faults.items()).replace(" ", "")
        self._command = [
            *(sys.executable, "-m", "experiments.forecast", "-m", "hydra/launcher=vmap", "hydra.launcher.workers=2"),
            *(*SMALL, *more, f"runs={folder}/runs", f"data.store={folder.parent}/cohort", f"seed=range({jobs})"),
            *(f"+model.faults={{{planted_faults}}}", f"+model.folder={folder}", f"+model.seeds={jobs}"),
        ]

    def run(self) -> tuple[dict[int, dict], str]:
        """Run the command; return each job's line by its seed, and the last line of output."""
        done = subprocess.run(self._command, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1) or "sweep: " not in done.stdout:
            raise RuntimeError(done.stderr[-3000:])
        return self._lines(), done.stdout.splitlines()[-1]

    def kill(self, after: int) -> int:
        """Kill the launcher once `after` jobs have ended; return how many had."""
        with (self.folder / "stderr").open("w") as stderr:
            launcher = subprocess.Popen(self._command, stdout=stderr, stderr=stderr)
        while len(self._lines()) < after:
            if launcher.poll() is not None:
                raise RuntimeError((self.folder / "stderr").read_text()[-3000:])
            time.sleep(0.02)
        launcher.send_signal(signal.SIGKILL)
        launcher.wait()
        return len(self._lines())

    def fits(self) -> Counter[tuple[str, int]]:
        """Count the fits of each seed that began and that ended."""
        lines = (self.folder / "fits.txt").read_text().splitlines()
        return Counter((event, int(seed)) for event, seed in map(str.split, lines))

    def states(self) -> dict[int, dict]:
        """Status of each run by its seed."""
        found = {}
        for file in (self.folder / "runs" / "forecast").glob("*/status.json"):
            seed = next(line for line in (file.parent / "config.yaml").read_text().splitlines() if line[:5] == "seed:")
            found[int(seed.split()[1])] = json.loads(file.read_text())
        return found

    def _lines(self) -> dict[int, dict]:
        """Newest line of each job by its seed."""
        found = {}
        for file in sorted((self.folder / "runs").glob("sweeps/*/jobs.jsonl")):
            for line in map(json.loads, file.read_text().splitlines()):
                seed = next(word for word in line["overrides"] if word.startswith("seed="))
                found[int(seed.split("=")[1])] = line
        return found


if __name__ == "__main__":
    main()
