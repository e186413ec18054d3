"""Waiting for data and memory of training on a cohort larger than memory.

    python -m benchmarks.pipeline [--scans 200 2000] [--side 80]

Two cohorts of incompressible noise are written to disk, and a 3-D CNN and a GRU train on each for one epoch, in a
process of its own: grain reads scans ahead of the step, at most 1/128 of the larger cohort is cached, and the encoder
keeps the activations of one scan at a time. Reported for each: the share of the steady time spent waiting for data, the
time per scan, and the peak resident memory of the process. `ratio` is the size on disk of the larger cohort over that
memory.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import RESULTS, commit, machine

VISITS, BATCH = 4, 2  # scans of a subject; subjects of a batch


def main() -> None:
    """Write the cohorts, train on each, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--side", type=int, default=80)
    args = parser.parse_args()
    cache = max(args.scans) * args.side**3 * 4 // 128
    cases = {}
    with tempfile.TemporaryDirectory() as folder:
        for scans in args.scans:
            store = Path(folder) / str(scans)
            cohort(store, scans, args.side)
            command = [sys.executable, "-m", "benchmarks.pipeline", "--train", store, str(cache)]
            made = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
            if made.returncode:
                raise RuntimeError(made.stderr[-3000:])
            case = json.loads(made.stdout.splitlines()[-1])
            case["disk_bytes"] = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
            case["times_larger"] = round(case["disk_bytes"] / case["peak_bytes"], 2)
            cases[f"{scans} scans"] = case
            print(f"{scans:5} scans: " + ", ".join(f"{name} {value}" for name, value in case.items()), flush=True)
    first, *_, last = cases.values()
    result = {
        "benchmark": "pipeline",
        "device": "cpu",
        "ratio": last["times_larger"],
        "cases": cases,
        "waiting": max(case["waiting"] for case in cases.values()),
        "memory_growth": round(last["peak_bytes"] / first["peak_bytes"], 3),
        "time_growth": round(last["ms_a_scan"] / first["ms_a_scan"], 3),
        "scan": [args.side] * 3,
        "cache_bytes": cache,
        "machine": machine(),
        "commit": commit(),
    }
    (RESULTS / "pipeline.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def _environment() -> dict[str, str]:
    """Return freed memory to the system at once, so that resident memory is memory in use."""
    return {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20), "JAX_PLATFORMS": "cpu"}


def cohort(folder: Path, scans: int, side: int) -> None:
    """Write subjects of four visits, each with a scan and a score to forecast."""
    from framework.data.cohort.schema import Modality, Scan, Schema, Subject, Variable, Visit
    from framework.data.cohort.store import write

    rng, grid = np.random.default_rng(0), (side, side, side)

    def subject(index: int) -> Subject:
        start = float(rng.normal(25, 3))
        visits = [
            Visit(f"v{j}", float(j), {"score": start - 2 * j}, {"t1": Scan(rng.random((*grid, 1), np.float32))})
            for j in range(VISITS)
        ]
        return Subject(f"s{index:04}", tuple(visits))

    schema = Schema((Variable("score", ("input", "target"), "points"),), modalities=(Modality("t1", grid, (1.0,) * 3),))
    write(str(folder), schema, (subject(index) for index in range(scans // VISITS)))


def train(store: Path, cache: int) -> None:
    """Train one epoch; print the waiting share, milliseconds per scan and the peak resident memory."""
    import jax
    from hydra import compose, initialize_config_module
    from hydra.utils import instantiate

    from framework.data.cohort.store import open_cohort
    from framework.data.queries.examples import Examples
    from framework.data.queries.layout import layout
    from framework.data.splits.split import Split

    opened = open_cohort(str(store))
    subjects = len(opened.subjects)
    recipe = [
        "model=cnn_gru",
        "training=scans",
        "training.memory.remat_chunk=1",
        f"training.batch={BATCH}",
        f"training.steps={subjects // BATCH}",
        f"training.eval_every={subjects // BATCH}",
        f"training.cache_bytes={cache}",
    ]
    with initialize_config_module("conf", version_base="1.3"):
        model = instantiate(compose("forecast", recipe).model, _convert_="all")
    examples = Examples(opened, layout(opened.schema, ["score"]))
    place, none = np.arange(subjects), np.zeros(subjects, bool)
    start = time.perf_counter()
    cost = model.fit(examples, Split(place > 0, none, place == 0), jax.random.key(0)).cost
    print(
        json.dumps(
            {
                "waiting": round(cost.waiting, 4),
                "ms_a_scan": round(1e3 / cost.scans_per_second, 2),
                "seconds": round(time.perf_counter() - start, 1),
                "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--train"]:
        train(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
