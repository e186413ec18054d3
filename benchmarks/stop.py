"""How soon does a fit end once it is asked to, and does it end true?

    python -m benchmarks.stop [--times 20] [--kinds forest boosting gru progression mixed_effects]

`experiments.forecast` on OASIS-2 gets SIGINT, and as often SIGTERM, at random moments between the first word of its
status and the end that an undisturbed run comes to; nothing compiled is kept, so that many of them meet the compiler.
Measured are the seconds until the process has ended. What must hold: one line on standard error, a status that says
stopped (or finished, where it was), no file half-written, and of the last run, which is left alone, the forecasts of
the undisturbed one, byte for byte. `ratio` is the share of signals of which all that holds and that ended the process
within two seconds.
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

KINDS = {
    "forest": ("model=forest",),
    "boosting": ("model=boosting",),
    "gru": ("model=gru", "optimizer.patience=99"),
    "progression": ("model=progression",),
    "mixed_effects": ("model=mixed_effects",),
}
SOON = 2.0  # seconds


def main() -> None:
    """Stop, measure, and leave the result beside this module."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--times", type=int, default=20)
    asked.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    told = asked.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # begun in the background of a script it would be ignored
    cases = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in told.kinds:
            cases[kind] = measure(Path(folder), kind, told.times)
            print(f"{kind:14} {json.dumps(cases[kind])}", flush=True)
            _write(cases)
    print(json.dumps(_write(cases)))


def _write(cases: dict) -> dict:
    """The result of the kinds measured so far, left beside this module."""
    result = {
        "benchmark": "stop",
        "device": "cpu",
        "ratio": float(np.mean([case["well"] / case["signals"] for case in cases.values()])),
        "cases": cases,
        "machine": machine(),
        "commit": commit(),
    }
    (RESULTS / "stop.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def measure(folder: Path, kind: str, times: int, more: tuple[str, ...] = ()) -> dict:
    """What became of so many signals of each kind, and whether the last run ended as if none had come."""
    draw, words = random.Random(0), (*KINDS[kind], *more)
    calm = Life(folder / f"{kind}-calm", words)
    begun = calm.begun()
    calm.process.communicate()
    lasts = time.monotonic() - begun
    found = {"signals": 0, "well": 0, "lasts": round(lasts, 2)}
    for name, number in (("SIGINT", signal.SIGINT), ("SIGTERM", signal.SIGTERM)):
        taken = []
        for _ in range(times):
            life = Life(folder / f"{kind}-stopped", words)
            life.begun()
            time.sleep(draw.uniform(0, lasts))
            seconds, faults = life.stopped(number)
            taken.append(seconds)
            faults += [f"{name} after {seconds:.1f} s"] * (seconds >= SOON)
            found["signals"] += 1
            found["well"] += not faults
            found.setdefault("faults", []).extend(faults)
            if life.ended:  # before the signal came
                life.forget()
        found[name] = {"median_s": round(float(np.median(taken)), 3), "worst_s": round(max(taken), 3)}
    last = Life(folder / f"{kind}-stopped", words)
    last.process.communicate()
    return found | {"equal": last.forecasts() == calm.forecasts()}


class Life:
    """One process of a command whose runs lie in a folder."""

    def __init__(self, folder: Path, words: tuple[str, ...]):
        self.folder, self.ended, self.since = folder, False, time.time()
        folder.mkdir(parents=True, exist_ok=True)
        self._err = folder / "stderr"
        command = [sys.executable, "-m", "experiments.forecast", "data=oasis2", "report=false", "resamples=100"]
        places = (f"runs={folder}/runs", f"data.store={folder.parent}/cohort")
        with self._err.open("w") as err:
            self.process = subprocess.Popen(
                [*command, *words, *places],
                stdout=subprocess.PIPE,
                stderr=err,
                env=os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"},
            )

    def begun(self) -> float:
        """When its status told of this process."""
        while self._status().get("process") != self.process.pid:
            if self.process.poll() is not None:
                raise RuntimeError(self._err.read_text()[-3000:])
            time.sleep(0.01)
        return time.monotonic()

    def stopped(self, number: int) -> tuple[float, list[str]]:
        """Seconds from the signal to the end, and what it left that is not true or not whole."""
        start = time.monotonic()
        self.process.send_signal(number)
        self.process.communicate()
        seconds, state = time.monotonic() - start, self._status()["state"]
        lines = self._err.read_text().splitlines()
        self.ended = state == "finished"
        code, halves = self.process.returncode, [f for f in self.folder.rglob("*.new") if "xla" not in str(f)]
        expected = (0, 128 + number, *([-number] * self.ended))  # the last: as the process went, its work done
        faults = [f"exit code {code}"] * (code not in expected)
        if not self.ended:
            said = len([line for line in lines if "goes on from" in line]) == 1 and "Traceback" not in "".join(lines)
            faults += [f"status {state}"] * (state != "stopped") + [f"said {' '.join(lines)[-300:]}"] * (not said)
        return seconds, faults + [f"half-written {file.name}" for file in halves]

    def forget(self) -> None:
        """Have the next life begin anew."""
        [run] = (self.folder / "runs" / "forecast").iterdir()
        os.replace(run, self.folder / f"done-{time.monotonic()}")

    def forecasts(self) -> dict[str, bytes]:
        """The bytes of all tables of forecasts."""
        files = (self.folder / "runs").rglob("forecasts/*.csv")
        return {file.name: file.read_bytes() for file in files}

    def _status(self) -> dict:
        for file in (self.folder / "runs").rglob("status.json"):
            return json.loads(file.read_text())
        return {}


if __name__ == "__main__":
    main()
