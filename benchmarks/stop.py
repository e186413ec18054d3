"""Time from SIGINT or SIGTERM to the end of a fit, and correctness of what it leaves.

    python -m benchmarks.stop [--times 20] [--kinds forest boosting gru progression mixed_effects]

`experiments.forecast` on OASIS-2 receives SIGINT, and as often SIGTERM, at random moments between its first status and
the end of an undisturbed run; the compilation cache is off, so that many signals arrive during compilation. Measured
are the seconds until the process has ended. Required: one line on standard error, the status `stopped` (or `finished`,
where it was), no partial file, and, after the last run, which is not interrupted, forecasts equal to the undisturbed
ones byte for byte. `ratio` is the share of signals that meet these requirements and end the process within two seconds.
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
from pathlib import Path

import numpy as np

from benchmarks.measure import RESULTS, commit, machine

FILE = RESULTS / "stop.json"
KINDS = {
    "forest": ("model=forest",),
    "boosting": ("model=boosting",),
    "gru": ("model=gru", "training.patience=99"),
    "progression": ("model=progression",),
    "mixed_effects": ("model=mixed_effects",),
}
LIMIT = 2.0  # seconds


def main() -> None:
    """Stop runs, measure and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a script SIGINT is ignored
    earlier = json.loads(FILE.read_text())["cases"] if FILE.exists() else {}
    cases = {kind: case for kind, case in earlier.items() if kind not in args.kinds}
    with tempfile.TemporaryDirectory() as folder:
        for kind in args.kinds:
            cases[kind] = measure(Path(folder), kind, args.times) | {"commit": commit()}
            print(f"{kind:14} {json.dumps(cases[kind])}", flush=True)
            _write(cases)
    print(json.dumps(_write(cases)))


def _write(cases: dict) -> dict:
    """Write the record of the kinds measured so far, each with its commit."""
    result = {
        "benchmark": "stop",
        "device": "cpu",
        "ratio": float(np.mean([case["well"] / case["signals"] for case in cases.values()])),
        "cases": cases,
        "machine": machine(),
    }
    FILE.write_text(json.dumps(result, indent=1) + "\n")
    return result


def measure(folder: Path, kind: str, times: int, more: tuple[str, ...] = ()) -> dict:
    """Summarise the signals of each kind, and whether the last run equals an undisturbed one."""
    draw, overrides = random.Random(0), (*KINDS[kind], *more)
    undisturbed = Process(folder / f"{kind}-undisturbed", overrides)
    begun = undisturbed.wait_for_status()
    undisturbed.process.communicate()
    duration = time.monotonic() - begun
    found = {"signals": 0, "well": 0, "lasts": round(duration, 2)}
    for name, number in (("SIGINT", signal.SIGINT), ("SIGTERM", signal.SIGTERM)):
        taken = []
        for _ in range(times):
            run = Process(folder / f"{kind}-stopped", overrides)
            run.wait_for_status()
            time.sleep(draw.uniform(0, duration))
            seconds, faults = run.stop(number)
            taken.append(seconds)
            faults += [f"{name} after {seconds:.1f} s"] * (seconds >= LIMIT)
            found["signals"] += 1
            found["well"] += not faults
            found.setdefault("faults", []).extend(faults)
            if run.ended:  # before the signal arrived
                run.move_away()
        found[name] = {"median_s": round(float(np.median(taken)), 3), "worst_s": round(max(taken), 3)}
    last = Process(folder / f"{kind}-stopped", overrides)
    last.process.communicate()
    return found | {"equal": last.forecasts() == undisturbed.forecasts()}


class Process:
    """A process of the command with its runs in a folder."""

    def __init__(self, folder: Path, overrides: tuple[str, ...]):
        self.folder, self.ended, self.since = folder, False, time.time()
        folder.mkdir(parents=True, exist_ok=True)
        self._err = folder / "stderr"
        command = [sys.executable, "-m", "experiments.forecast", "data=oasis2", "report=false", "resamples=100"]
        places = (f"runs={folder}/runs", f"data.store={folder.parent}/cohort")
        with self._err.open("w") as err:
            self.process = subprocess.Popen(
                [*command, *overrides, *places],
                stdout=subprocess.PIPE,
                stderr=err,
                env=os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"},
            )

    def wait_for_status(self) -> float:
        """Wait until the status names this process; return the time."""
        while self._status().get("process") != self.process.pid:
            if self.process.poll() is not None:
                raise RuntimeError(self._err.read_text()[-3000:])
            time.sleep(0.01)
        return time.monotonic()

    def stop(self, number: int) -> tuple[float, list[str]]:
        """Send a signal; return the seconds to the end, and faults of what the process left."""
        start = time.monotonic()
        self.process.send_signal(number)
        self.process.communicate()
        seconds, state = time.monotonic() - start, self._status()["state"]
        lines = self._err.read_text().splitlines()
        self.ended = state == "finished"
        code, partial = self.process.returncode, [f for f in self.folder.rglob("*.new") if "xla" not in str(f)]
        expected = (0, 128 + number, *([-number] * self.ended))  # the last: the signal arrived after the work was done
        faults = [f"exit code {code}"] * (code not in expected)
        if not self.ended:
            said = len([line for line in lines if "goes on from" in line]) == 1 and "Traceback" not in "".join(lines)
            faults += [f"status {state}"] * (state != "stopped") + [f"said {' '.join(lines)[-300:]}"] * (not said)
        return seconds, faults + [f"partial file {file.name}" for file in partial]

    def move_away(self) -> None:
        """Move the run away, so that the next process starts from the beginning."""
        [run] = (self.folder / "runs" / "forecast").iterdir()
        os.replace(run, self.folder / f"done-{time.monotonic()}")

    def forecasts(self) -> dict[str, bytes]:
        """Bytes of all tables of forecasts."""
        files = (self.folder / "runs").rglob("forecasts/*.csv")
        return {file.name: file.read_bytes() for file in files}

    def _status(self) -> dict:
        for file in (self.folder / "runs").rglob("status.json"):
            return json.loads(file.read_text())
        return {}


if __name__ == "__main__":
    main()
