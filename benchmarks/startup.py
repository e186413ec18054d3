"""Time to the first step: compiling the plain CNN's training step, and `experiments.forecast` from its start.

    python -m benchmarks.startup [--rounds 3] [--cases compile forecast]

Cold starts have an empty compilation cache, warm starts that of the cold start before; the native kernels are built
beforehand, which happens once per machine and is timed as `kernels`. Every start is a process of its own. `compile` is
tracing, lowering and compiling the step of `benchmarks.step` at 64³×4. `forecast` is a CNN and a GRU on a small
simulated, ingested cohort, from the start of the process to the end of the first training step, divided into importing,
setting up (configuration, cohort, reference forecasts, initial parameters) and that step; the processor time of all
threads is independent of other load on the machine. The ratio is the target over the time, in the worst case. Writes
results/startup-<device>.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks import measure

TARGETS = {"compile cold": 6.0, "compile warm": 1.5, "forecast cold": 12.0, "forecast warm": 6.0}  # s
COHORT = ["data=atrophy", "data.subjects=8"]


def main() -> None:
    """Start each case repeatedly, cold and warm in turns, print a table and write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description="Time to the first step.")
    parser.add_argument("--cases", nargs="+", choices=["compile", "forecast"], default=["compile", "forecast"])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    phases: dict[str, list[dict]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if "forecast" in args.cases:
            ingest = [sys.executable, "-m", "experiments.ingest", *COHORT, f"data.store={place / 'cohort'}"]
            subprocess.run(ingest, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        kernels = _child("kernels", {"XDG_CACHE_HOME": str(place / "kernels")})
        for number in range(args.rounds):
            for name in args.cases:
                for state in ("cold", "warm"):
                    phases[f"{name} {state}"].append(_start(name, place, number, state))
        cases = {name: case(taken, TARGETS[name]) for name, taken in phases.items()}
        for name, timed in cases.items():
            print(f"{name:14} {timed['median_s']:5.2f} s, target {timed['target_s']:4.1f} s  {timed['wall_s']}")
            print(f"{'':14} {sum(timed['processor_s'].values()):5.2f} s of processor time    {timed['processor_s']}")
        print(f"kernels, once  {kernels['kernels']:5.2f} s")
        result = measure.record(
            "startup", _child("environment", {}), cases, warmup=0, repeats=args.rounds, kernels_s=kernels["kernels"]
        )
    result["ratio"] = min(timed["ratio"] for timed in cases.values())
    measure.write(result)


def case(taken: list[dict], target: float) -> dict:
    """Summarise starts: median and quartiles of the total, medians of each phase and of its processor time."""
    seconds = np.array([sum(start["wall"].values()) for start in taken])
    low, middle, high = np.quantile(seconds, (0.25, 0.5, 0.75))
    medians = {
        f"{name}_s": {phase: round(float(np.median([start[name][phase] for start in taken])), 2) for phase in phases}
        for name, phases in taken[0].items()
    }
    return {
        "median_s": round(middle, 3),
        "spread_s": [round(low, 3), round(high, 3)],
        **medians,
        "target_s": target,
        "ratio": round(target / middle, 3),
    }


def _start(name: str, place: Path, number: int, state: str) -> dict[str, dict[str, float]]:
    more = [f"data.store={place / 'cohort'}", f"runs={place / f'{number}-{state}'}"] if name == "forecast" else []
    return _child(name, {"JAX_COMPILATION_CACHE_DIR": str(place / f"{name}-{number}")}, *more)


def _child(name: str, settings: Mapping[str, str], *more: str) -> dict:
    """Run one child process; return the result on its last line."""
    command = [sys.executable, "-m", "benchmarks.startup", f"--{name}", str(time.time()), *more]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with code {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _print_phases(phases: Sequence[str], at: Sequence[float], used: Sequence[float]) -> None:
    """Print each phase's wall time and the processor time that all threads used in it."""
    seconds_by_clock = {"wall": np.diff(at).tolist(), "processor": np.diff(used).tolist()}
    print(json.dumps({name: dict(zip(phases, seconds, strict=True)) for name, seconds in seconds_by_clock.items()}))


def compiling(_: float) -> None:
    """Time tracing, lowering and compiling in this process."""
    import jax

    from benchmarks import networks
    from benchmarks.cases import CASES
    from framework.runs.execute import use_compilation_cache

    use_compilation_cache()
    step, start = networks.stepper(CASES["64³×4"])
    inputs, truth = networks.batch(CASES["64³×4"])
    state = jax.eval_shape(start, jax.random.key(0))
    at, used = [time.time()], [time.process_time()]
    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(*state, inputs, truth)
    at.append(time.time())
    used.append(time.process_time())
    lowered.compile()
    at.append(time.time())
    used.append(time.process_time())
    _print_phases(("tracing", "compiling"), at, used)


def forecasting(started: float) -> None:
    """Run `experiments.forecast` up to the end of the first step, and print the seconds of each phase."""
    from experiments.forecast import main as forecast
    from framework.runs import execute  # noqa: F401  as the command does once its configuration is composed
    from framework.train.cost.throughput import Meter

    at, used, take = [started, time.time()], [0.0, time.process_time()], Meter.time

    def first_step(*args, **named):
        at.append(time.time())
        used.append(time.process_time())
        take(*args, **named)
        at.append(time.time())
        used.append(time.process_time())
        _print_phases(("importing", "setting up", "first step"), at, used)
        sys.stdout.flush()
        os._exit(0)

    Meter.time = first_step
    sys.argv = [sys.argv[0], *COHORT, "model=cnn_gru", "training=scans", "split.folds=4", *sys.argv[3:]]
    forecast()


def building(_: float) -> None:
    """Time building the native kernels; near 0 where they are built."""
    from framework.nn.native import library

    start = time.perf_counter()
    library.convolves()
    library.normalises()
    print(json.dumps({"kernels": round(time.perf_counter() - start, 3)}))


def environment(_: float) -> None:
    """Print the device and the versions."""
    from benchmarks import networks

    print(json.dumps(networks.environment()))


if __name__ == "__main__":
    child = {"--compile": compiling, "--forecast": forecasting, "--kernels": building, "--environment": environment}
    if len(sys.argv) > 2 and sys.argv[1] in child:
        child[sys.argv[1]](float(sys.argv[2]))
    else:
        main()
