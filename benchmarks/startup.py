"""How long until the first step: compiling the plain CNN's training step, and `experiments.forecast` from its start.

    python -m benchmarks.startup [--rounds 3] [--cases compile forecast]

Cold is with an empty compilation cache, warm with the one that the cold start just left; both with the native kernels
built, which happens once on a machine and is timed as `kernels`. Every start is a process of its own. `compile` is
tracing, lowering and compiling the step of `benchmarks.step` at 64³×4. `forecast` is a CNN and a GRU on a small
simulated cohort that lies ingested, from the start of the process to the end of the first training step, cut into
importing, setting up (configuration, cohort, floors, fresh parameters) and that step itself. The ratio is the target
over the time, the worst case's. Writes results/startup-<device>.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks import measure

TARGETS = {"compile cold": 6.0, "compile warm": 1.5, "forecast cold": 12.0, "forecast warm": 6.0}  # s
COHORT = ["data=atrophy", "data.subjects=8"]


def main() -> None:
    """Start everything so many times, cold and warm in turns, print a table and leave the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description="Time to the first step.")
    parser.add_argument("--cases", nargs="+", choices=["compile", "forecast"], default=["compile", "forecast"])
    parser.add_argument("--rounds", type=int, default=3)
    told = parser.parse_args()
    phases: dict[str, list[dict]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if "forecast" in told.cases:
            ingest = [sys.executable, "-m", "experiments.ingest", *COHORT, f"data.store={place / 'cohort'}"]
            subprocess.run(ingest, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        kernels = _child("kernels", {"XDG_CACHE_HOME": str(place / "kernels")})
        for number in range(told.rounds):
            for name in told.cases:
                for state in ("cold", "warm"):
                    phases[f"{name} {state}"].append(_start(name, place, number, state))
        cases = {name: case(taken, TARGETS[name]) for name, taken in phases.items()}
        for name, one in cases.items():
            print(f"{name:14} {one['median_s']:5.2f} s, target {one['target_s']:4.1f} s  {one['phases_s']}")
        print(f"kernels, once  {kernels['kernels']:5.2f} s")
        result = measure.record(
            "startup", _child("environment", {}), cases, warmup=0, repeats=told.rounds, kernels_s=kernels["kernels"]
        )
    result["ratio"] = min(one["ratio"] for one in cases.values())
    measure.write(result)


def case(taken: list[dict], target: float) -> dict:
    """Median and spread of the sums of phases, and each phase's median."""
    seconds = np.array([sum(one.values()) for one in taken])
    low, middle, high = np.quantile(seconds, (0.25, 0.5, 0.75))
    return {
        "median_s": round(middle, 3),
        "spread_s": [round(low, 3), round(high, 3)],
        "phases_s": {phase: round(float(np.median([one[phase] for one in taken])), 3) for phase in taken[0]},
        "target_s": target,
        "ratio": round(target / middle, 3),
    }


def _start(name: str, place: Path, number: int, state: str) -> dict[str, float]:
    more = [f"data.store={place / 'cohort'}", f"runs={place / f'{number}-{state}'}"] if name == "forecast" else []
    return _child(name, {"JAX_COMPILATION_CACHE_DIR": str(place / f"{name}-{number}")}, *more)


def _child(name: str, settings: Mapping[str, str], *more: str) -> dict:
    """What one process says of itself on its last line."""
    command = [sys.executable, "-m", "benchmarks.startup", f"--{name}", str(time.time()), *more]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with code {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def compiling(_: float) -> dict[str, float]:
    """Seconds of tracing, lowering and compiling, in this process."""
    import jax

    from benchmarks import networks
    from benchmarks.cases import CASES

    step, start = networks.stepper(CASES["64³×4"])
    fed, truth = networks.given(CASES["64³×4"])
    state = jax.eval_shape(start, jax.random.key(0))
    at = [time.perf_counter()]
    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(*state, fed, truth)
    at.append(time.perf_counter())
    lowered.compile()
    at.append(time.perf_counter())
    return dict(zip(("tracing", "compiling"), np.diff(at).tolist(), strict=True))


def forecasting(started: float) -> None:
    """Run `experiments.forecast` until the first step is done, tell the seconds of each phase, and end there."""
    from experiments.forecast import main as forecast
    from framework.launch import run  # noqa: F401  as the command does once its configuration is composed
    from framework.train.meter import Meter

    at, take = [started, time.time()], Meter.time

    def first(*args, **named):
        at.append(time.time())
        take(*args, **named)
        at.append(time.time())
        print(json.dumps(dict(zip(("importing", "setting up", "first step"), np.diff(at).tolist(), strict=True))))
        sys.stdout.flush()
        os._exit(0)

    Meter.time = first
    sys.argv = [sys.argv[0], *COHORT, "model=cnn_gru", "split.folds=4", *sys.argv[3:]]
    forecast()


def building(_: float) -> dict[str, float]:
    """Seconds of building the native kernels; nothing to build takes none."""
    from framework.nn.native import library

    start = time.perf_counter()
    library.available()
    return {"kernels": round(time.perf_counter() - start, 3)}


def environment(_: float) -> dict:
    """The device and the versions."""
    from benchmarks import networks

    return networks.environment()


if __name__ == "__main__":
    child = {"--compile": compiling, "--forecast": forecasting, "--kernels": building, "--environment": environment}
    if len(sys.argv) > 2 and sys.argv[1] in child:
        print(json.dumps(child[sys.argv[1]](float(sys.argv[2]))))
    else:
        main()
