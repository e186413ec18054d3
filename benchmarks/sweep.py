"""Time of a sweep by one command, beside other ways to run its jobs.

    python -m benchmarks.sweep [--cases oasis2 cnn svm lanes] [--rounds 1] [--jobs 64] [--more training.steps=100]

`oasis2` is 16 seeds x 4 learning rates of a GRU on the OASIS-2 table with the default training; `cnn` is 16 jobs of a
CNN and a GRU on simulated scans at 32³. Four arms take turns, each with an empty compilation cache, its own folder and
no reports: `hydra/launcher=vmap`; Hydra's basic launcher (`-m` alone); a fresh process per job, as a shell loop would
start them; one warm process that composes every job by Hydra and runs it with the data opened and the step compiled
once. The ratio of an arm is its wall time over the vmap launcher's; that of a case is the least of ratio over target.
`svm` is the grid of `benchmarks.baselines`, 25 points of C and gamma in five folds, as one program, beside its 125 fits
in sequence, compiled once. `lanes` trains 8 members in one program for 50 steps and compares their parameters with
those of the same members trained alone; its ratio is 1e-5 over the relative difference of the worst member, as a norm
over all parameters.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks import measure

FORECAST = (sys.executable, "-m", "experiments.forecast")
VMAP = "hydra/launcher=vmap"


@dataclass(frozen=True)
class Study:
    """Overrides that all jobs share, those that are swept, and the target speed-up over each arm."""

    shared: tuple[str, ...]
    rates: tuple[str, ...]
    seeds: int
    targets: Mapping[str, float]

    def swept(self, jobs: int) -> list[str]:
        """Overrides of the sweep, with at most `jobs` jobs."""
        seeds = max(1, min(self.seeds, jobs // len(self.rates)))
        return [f"seed={','.join(map(str, range(seeds)))}", f"training.optimizer.learning_rate={','.join(self.rates)}"]


STUDIES = {
    "oasis2": Study(
        ("data=oasis2", "model=gru"), ("1e-2", "3e-3", "1e-3", "3e-4"), 16, {"fresh": 20, "basic": 8, "warm": 3}
    ),
    "cnn": Study(
        ("data=atrophy", "data.subjects=60", "model=cnn_gru", "training=scans", "training.steps=100"),
        ("3e-3", "1e-3"),
        8,
        {"warm": 1},
    ),
}


def main() -> None:
    """Time the arms in turns, print a table and write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=[*STUDIES, "svm", "lanes"], default=[*STUDIES, "svm", "lanes"])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=64, help="largest number of jobs of each study")
    parser.add_argument("--more", nargs="+", default=[], help="further overrides of all jobs, for a quick estimate")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = {name: _case(name, Path(folder), args.rounds, args.jobs, args.more) for name in args.cases}
    result = measure.record("sweep", json.loads(_run_child("environment")), cases, rounds=args.rounds, more=args.more)
    result["ratio"] = min(case["ratio"] for case in cases.values())
    measure.write(
        result, "-sample" if args.more or args.jobs < 64 or set(args.cases) < {*STUDIES, "svm", "lanes"} else ""
    )


def _case(name: str, folder: Path, rounds: int, jobs: int, more: Sequence[str]) -> dict:
    found = (
        time_study(STUDIES[name], folder / name, rounds, jobs, more)
        if name in STUDIES
        else json.loads(_run_child(name))
    )
    print(f"{name:8} {json.dumps(found)}", flush=True)
    return found


def time_study(study: Study, folder: Path, rounds: int, jobs: int, more: Sequence[str] = ()) -> dict:
    """Time every arm; return wall seconds, the launcher's speed-up over each, and the agreement of the results."""
    store = f"data.store={folder / 'cohort'}"
    data = [word for word in study.shared if word.startswith("data")]
    subprocess.run([sys.executable, "-m", "experiments.ingest", *data, store], check=True, capture_output=True)
    shared = [*study.shared, store, *more]
    seconds: dict[str, list[float]] = {arm: [] for arm in ("vmap", *study.targets)}
    values: dict[str, dict[str, float]] = {}
    others = []
    for number in range(rounds):
        for arm in list(seconds)[:: -1 if number % 2 else 1]:
            took, share, values[arm] = _timed(arm, study.swept(jobs), shared, folder / f"{arm}{number}")
            seconds[arm].append(took)
            others.append(share)
            print(f"  {arm} {took:.1f} s, others {share}", flush=True)
    middle = {arm: float(np.median(taken)) for arm, taken in seconds.items()}
    ratios = {arm: round(middle[arm] / middle["vmap"], 2) for arm in study.targets}
    return {
        "jobs": len(values["vmap"]),
        "seconds": {arm: [round(s, 1) for s in taken] for arm, taken in seconds.items()},
        "ratios": ratios,
        "targets": dict(study.targets),
        "ratio": round(min(ratios[arm] / study.targets[arm] for arm in study.targets), 3),
        "agreement": {arm: _agreement(values["vmap"], values[arm]) for arm in study.targets},
        "others_share": max((share for share in others if share is not None), default=None),
    }


def _timed(arm: str, swept: list[str], shared: list[str], folder: Path) -> tuple[float, float | None, dict]:
    """Time one arm; return wall seconds, the share of the cores that others used, and each job's value."""
    places = [f"runs={folder}/runs", "report=false"]
    os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/xla"
    busy, used, start = measure.busy(), _processor_seconds(), time.perf_counter()
    ARMS[arm](swept, [*shared, *places])
    took = time.perf_counter() - start
    now = measure.busy()
    share = (
        None
        if busy is None or now is None
        else max(0, now - busy - (_processor_seconds() - used)) / took / measure.cores()
    )
    return took, None if share is None else round(share, 3), _values(folder / "runs" / "forecast")


def _processor_seconds() -> float:
    """Processor time of this process and of its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _vmap(swept: list[str], shared: list[str]) -> None:
    _run([*FORECAST, "-m", VMAP, *shared, *swept])


def _basic(swept: list[str], shared: list[str]) -> None:
    _run([*FORECAST, "-m", *shared, *swept])


def _fresh(swept: list[str], shared: list[str]) -> None:
    for job in _overrides_by_job(swept):
        _run([*FORECAST, *shared, *job])


def _warm(swept: list[str], shared: list[str]) -> None:
    _run_child("warm", json.dumps([[*shared, *job] for job in _overrides_by_job(swept)]))


ARMS: Mapping[str, Callable[[list[str], list[str]], None]] = {
    "vmap": _vmap,
    "basic": _basic,
    "fresh": _fresh,
    "warm": _warm,
}


def _overrides_by_job(swept: list[str]) -> list[list[str]]:
    """Overrides of each job."""
    choices = [[f"{word.split('=')[0]}={value}" for value in word.split("=")[1].split(",")] for word in swept]
    return [list(job) for job in product(*choices)]


def _run(command: Sequence[str], given: str = "") -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with code {done.returncode}\n{done.stderr[-3000:]}")
    return done.stdout


def _run_child(task: str, given: str = "") -> str:
    """Run this module in a child process; return its last line."""
    return _run([sys.executable, "-m", "benchmarks.sweep", f"--{task}"], given).splitlines()[-1]


def _values(runs: Path) -> dict[str, float]:
    """Best validation loss of each run, by its seed and learning rate."""
    found = {}
    for run in runs.iterdir():
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        lines = (run / "config.yaml").read_text().splitlines()
        seed = next(line for line in lines if line.startswith("seed:"))
        rate = next(line.strip() for line in lines if line.startswith("  learning_rate:"))
        found[f"{seed} {rate}"] = min(row["validation"] for row in rows if row["model"] not in ("last_visit", "slope"))
    return found


def _agreement(ours: Mapping[str, float], theirs: Mapping[str, float]) -> dict:
    """Largest relative difference of a value, and whether jobs that differ by more have the same ranking."""
    if ours.keys() != theirs.keys():
        raise RuntimeError(f"one arm has {len(ours)} jobs, another {len(theirs)}")
    a, b = (np.array([each[job] for job in sorted(ours)]) for each in (ours, theirs))
    worst = float((abs(a - b) / abs(b)).max())
    order = np.argsort(b, kind="stable")
    apart = np.diff(b[order]) > 2 * abs(a - b).max()  # neighbours that differ by more than the tolerance
    return {"relative": worst, "ranked_alike": bool((np.diff(a[order])[apart] > 0).all())}


def warm() -> None:
    """Run jobs in sequence, composed by Hydra, with the data opened and the step compiled once."""
    from dataclasses import replace

    from hydra import compose, initialize_config_module
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from framework.config.model_configs import ModelConfigs
    from framework.config.validate import validate_config
    from framework.runs.execute import forecast_job, run_job, use_compilation_cache
    from framework.sweeps.worker import WorkerCache

    use_compilation_cache()
    opened, recipes, learner = WorkerCache(), ModelConfigs(), {}
    with initialize_config_module("conf", version_base="1.3"):
        for overrides in json.load(sys.stdin):
            full = compose("forecast", overrides, return_hydra_config=True)
            HydraConfig.instance().set_config(full)
            config = OmegaConf.masked_copy(full, [str(key) for key in full if key != "hydra"])
            OmegaConf.resolve(config)
            validate_config(config)
            job = forecast_job(config, recipes, opened.load_examples)
            learner = learner or {job.studied: job.forecasters[job.studied]}
            run_job(replace(job, fit_with=learner), quiet=True)
    print("done")


def lanes() -> None:
    """Train members in one program and alone; print the relative norm of their parameters' difference."""
    import jax
    import jax.numpy as jnp
    from hydra import compose, initialize_config_module
    from hydra.utils import instantiate

    from framework.forecast.fit_request import FitRequest
    from framework.runs.data_loading import load_examples

    count = 8
    with tempfile.TemporaryDirectory() as folder, initialize_config_module("conf", version_base="1.3"):
        steps = ["training.steps=50", "training.dropout=0.2", f"data.store={folder}/cohort"]
        config = compose("forecast", ["data=oasis2", "model=gru", *steps])
        model, examples = instantiate(config.model, _convert_="all"), load_examples(config)
        splits = [instantiate(config.split, _convert_="all", fold=m % 4).one(examples.cohort) for m in range(count)]
        keys = jax.random.split(jax.random.key(0), count)
        rates = jnp.geomspace(3e-4, 1e-2, count)
        shared = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), model.dynamic(examples.layout))
        dynamics = type(shared)(**{**vars(shared), "learning_rate": rates})
        request = FitRequest(examples, splits, keys, dynamics)
        batched = model.fit_many(request)
        norms, arrays = [], []
        for m in range(count):
            [alone] = model.fit_many(request.at([m]))
            pairs = [*zip(*(jax.tree.leaves(fitted.params) for fitted in (batched[m], alone)), strict=True)]
            difference = sum(float(((a - b) ** 2).sum()) for a, b in pairs)
            size = sum(float((b**2).sum()) for _, b in pairs)
            norms.append((difference / size) ** 0.5)
            arrays += [float(abs(a - b).max() / abs(b).max()) for a, b in pairs if b.size]
    worst = max(norms)
    result = {"members": count, "relative": worst, "relative_of_worst_array": max(arrays)}
    print(json.dumps({**result, "ratio": 1e-5 / worst if worst else 1e5}))


def svm() -> None:
    """Time the grid as one program and each point on each fold in sequence, compiled once."""
    import jax
    import jax.numpy as jnp
    from sklearn.model_selection import StratifiedKFold

    from benchmarks.estimator_cases import FOLDS, GRID, _grid
    from benchmarks.tables import CASES
    from framework.baselines.svm.svm import SVM

    case = CASES["svc-grid"]
    x, y = (part[: case.rows] for part in case.table())
    search = next(iter(_grid(x, y)[0].values()))
    recipe, seen = SVM(2, folds=0), np.ones(x.shape, bool)

    @jax.jit
    def fit(weight: jax.Array, C: jax.Array, gamma: jax.Array) -> jax.Array:  # noqa: N803  as the estimator calls it
        settings, keys = {"C": C[None], "gamma": gamma[None]}, jax.random.split(jax.random.key(0), 1)
        return recipe.held_out(x, seen, jnp.asarray(y, jnp.int32), weight[None], keys=keys, settings=settings)

    weights = []
    for _, rows in StratifiedKFold(FOLDS).split(x, y):
        weights.append(np.ones(len(y), np.float32))
        weights[-1][rows] = 0

    def one_by_one() -> None:
        for weight in weights:
            for C, gamma in product(*GRID.values()):  # noqa: N806
                jax.block_until_ready(fit(weight, np.float32(C), np.float32(gamma)))

    def turn(work: Callable[[], object]) -> measure.Turn:
        def timed(calls: int) -> list[float]:
            taken = []
            for _ in range(calls):
                start = time.perf_counter()
                work()
                taken.append(time.perf_counter() - start)
            return taken

        return timed

    times = measure.interleave({"one program": turn(search), "one by one": turn(one_by_one)}, rounds=3, calls=3)
    summaries = {name: measure.summary(seconds) for name, seconds in times.items()}
    print(json.dumps({"times": summaries, **measure.against(times["one program"], times["one by one"])}))


def environment() -> None:
    """Print the device and the versions."""
    from benchmarks import networks

    print(json.dumps(networks.environment()))


if __name__ == "__main__":
    child = {"--warm": warm, "--lanes": lanes, "--svm": svm, "--environment": environment}
    child.get(sys.argv[1] if len(sys.argv) > 1 else "", main)()
