"""How long a study takes from one command line, beside the other ways to run its jobs.

    python -m benchmarks.sweep [--cases oasis2 cnn svm lanes] [--rounds 1] [--jobs 64] [--more optimizer.steps=100]

`oasis2` is 16 seeds x 4 learning rates of a GRU on the OASIS-2 table, as the default recipe trains it; `cnn` 16 jobs
of a CNN and a GRU on simulated scans at 32³. Four arms take turns, each with an empty compilation cache and a folder of
its own, reports drawn on demand in all: `hydra/launcher=vmap`; Hydra's basic launcher (`-m` alone); a fresh process a
job, as a shell's loop would start them; one warm process that composes every job by Hydra and runs it with the data
opened and the step compiled once. The ratio of an arm is its wall time over the vmap launcher's, and that of a case is
the least of ratio over target. `svm` is the grid of `benchmarks.baselines`, 25 points of C and gamma in five folds, as
one program, beside its 125 fits one after another, compiled once. `lanes` trains 8 members side by side for 50 steps
and holds their parameters against those of the same members alone; its ratio is 1e-5 over the relative difference, as a
norm over all parameters, of the worst member.
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
    """What all jobs share, what they differ in, and how many times faster than each arm the launcher should be."""

    shared: tuple[str, ...]
    rates: tuple[str, ...]
    seeds: int
    targets: Mapping[str, float]

    def swept(self, jobs: int) -> list[str]:
        """The overrides of the sweep, of at most so many jobs."""
        seeds = max(1, min(self.seeds, jobs // len(self.rates)))
        return [f"seed={','.join(map(str, range(seeds)))}", f"optimizer.learning_rate={','.join(self.rates)}"]


STUDIES = {
    "oasis2": Study(
        ("data=oasis2", "model=gru"), ("1e-2", "3e-3", "1e-3", "3e-4"), 16, {"fresh": 20, "basic": 8, "warm": 3}
    ),
    "cnn": Study(
        ("data=atrophy", "data.subjects=60", "model=cnn_gru", "optimizer.steps=100", "optimizer.batch=8"),
        ("3e-3", "1e-3"),
        8,
        {"warm": 1},
    ),
}


def main() -> None:
    """Let the arms take turns, print a table and leave the record."""
    asked = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--cases", nargs="+", choices=[*STUDIES, "svm", "lanes"], default=[*STUDIES, "svm", "lanes"])
    asked.add_argument("--rounds", type=int, default=1)
    asked.add_argument("--jobs", type=int, default=64, help="at most so many of each study")
    asked.add_argument("--more", nargs="+", default=[], help="further overrides of all jobs, for a first look")
    told = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = {name: _case(name, Path(folder), told.rounds, told.jobs, told.more) for name in told.cases}
    result = measure.record("sweep", json.loads(_say("environment")), cases, rounds=told.rounds, more=told.more)
    result["ratio"] = min(case["ratio"] for case in cases.values())
    measure.write(
        result, "-sample" if told.more or told.jobs < 64 or set(told.cases) < {*STUDIES, "svm", "lanes"} else ""
    )


def _case(name: str, folder: Path, rounds: int, jobs: int, more: Sequence[str]) -> dict:
    found = study(STUDIES[name], folder / name, rounds, jobs, more) if name in STUDIES else json.loads(_say(name))
    print(f"{name:8} {json.dumps(found)}", flush=True)
    return found


def study(one: Study, folder: Path, rounds: int, jobs: int, more: Sequence[str] = ()) -> dict:
    """Wall seconds of every arm, the launcher's speed beside each, and whether all came to the same."""
    store = f"data.store={folder / 'cohort'}"
    data = [word for word in one.shared if word.startswith("data")]
    subprocess.run([sys.executable, "-m", "experiments.ingest", *data, store], check=True, capture_output=True)
    shared = [*one.shared, store, *more]
    seconds: dict[str, list[float]] = {arm: [] for arm in ("vmap", *one.targets)}
    values: dict[str, dict[str, float]] = {}
    others = []
    for number in range(rounds):
        for arm in list(seconds)[:: -1 if number % 2 else 1]:
            took, share, values[arm] = _timed(arm, one.swept(jobs), shared, folder / f"{arm}{number}")
            seconds[arm].append(took)
            others.append(share)
            print(f"  {arm} {took:.1f} s, others {share}", flush=True)
    middle = {arm: float(np.median(taken)) for arm, taken in seconds.items()}
    ratios = {arm: round(middle[arm] / middle["vmap"], 2) for arm in one.targets}
    return {
        "jobs": len(values["vmap"]),
        "seconds": {arm: [round(s, 1) for s in taken] for arm, taken in seconds.items()},
        "ratios": ratios,
        "targets": dict(one.targets),
        "ratio": round(min(ratios[arm] / one.targets[arm] for arm in one.targets), 3),
        "agreement": {arm: _agreement(values["vmap"], values[arm]) for arm in one.targets},
        "others_share": max((share for share in others if share is not None), default=None),
    }


def _timed(arm: str, swept: list[str], shared: list[str], folder: Path) -> tuple[float, float | None, dict]:
    """Wall seconds of an arm, what share of the cores others used meanwhile, and each job's value by its place."""
    places = [f"runs={folder}/runs", "report=false"]
    os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/xla"
    busy, own, start = measure.busy(), _own(), time.perf_counter()
    ARMS[arm](swept, [*shared, *places])
    took = time.perf_counter() - start
    now = measure.busy()
    share = None if busy is None or now is None else max(0, now - busy - (_own() - own)) / took / measure.cores()
    return took, None if share is None else round(share, 3), _values(folder / "runs" / "forecast")


def _own() -> float:
    """Seconds of processor time of this process and those that it waited for."""
    told = os.times()
    return told.user + told.system + told.children_user + told.children_system


def _vmap(swept: list[str], shared: list[str]) -> None:
    _run([*FORECAST, "-m", VMAP, *shared, *swept])


def _basic(swept: list[str], shared: list[str]) -> None:
    _run([*FORECAST, "-m", *shared, *swept])


def _fresh(swept: list[str], shared: list[str]) -> None:
    for job in _each(swept):
        _run([*FORECAST, *shared, *job])


def _warm(swept: list[str], shared: list[str]) -> None:
    _say("warm", json.dumps([[*shared, *job] for job in _each(swept)]))


ARMS: Mapping[str, Callable[[list[str], list[str]], None]] = {
    "vmap": _vmap,
    "basic": _basic,
    "fresh": _fresh,
    "warm": _warm,
}


def _each(swept: list[str]) -> list[list[str]]:
    """The overrides of each job."""
    choices = [[f"{word.split('=')[0]}={one}" for one in word.split("=")[1].split(",")] for word in swept]
    return [list(job) for job in product(*choices)]


def _run(command: Sequence[str], given: str = "") -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with code {done.returncode}\n{done.stderr[-3000:]}")
    return done.stdout


def _say(what: str, given: str = "") -> str:
    """The last line of a child process."""
    return _run([sys.executable, "-m", "benchmarks.sweep", f"--{what}"], given).splitlines()[-1]


def _values(runs: Path) -> dict[str, float]:
    """The best validation loss of each run, by its seed and learning rate."""
    found = {}
    for run in runs.iterdir():
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        lines = (run / "config.yaml").read_text().splitlines()
        seed = next(line for line in lines if line.startswith("seed:"))
        rate = next(line.strip() for line in lines if line.startswith("  learning_rate:"))
        found[f"{seed} {rate}"] = min(row["validation"] for row in rows if row["model"] not in ("last_visit", "slope"))
    return found


def _agreement(ours: Mapping[str, float], theirs: Mapping[str, float]) -> dict:
    """The greatest relative difference of a value, and whether jobs further apart than that rank alike."""
    if ours.keys() != theirs.keys():
        raise RuntimeError(f"one arm has {len(ours)} jobs, another {len(theirs)}")
    a, b = (np.array([each[job] for job in sorted(ours)]) for each in (ours, theirs))
    worst = float((abs(a - b) / abs(b)).max())
    order = np.argsort(b, kind="stable")
    apart = np.diff(b[order]) > 2 * abs(a - b).max()  # neighbours that are no tie within the tolerance
    return {"relative": worst, "ranked_alike": bool((np.diff(a[order])[apart] > 0).all())}


def warm() -> None:
    """Jobs one after another, composed by Hydra, the data opened and the step compiled once."""
    from dataclasses import replace

    from hydra import compose, initialize_config_module
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from framework.config.model_configs import Recipes
    from framework.config.validate import check
    from framework.runs.execute import forecast_job, run, use_compilation_cache
    from framework.sweeps.worker import Warm

    use_compilation_cache()
    opened, recipes, learner = Warm(), Recipes(), {}
    with initialize_config_module("conf", version_base="1.3"):
        for overrides in json.load(sys.stdin):
            full = compose("forecast", overrides, return_hydra_config=True)
            HydraConfig.instance().set_config(full)
            config = OmegaConf.masked_copy(full, [str(key) for key in full if key != "hydra"])
            OmegaConf.resolve(config)
            check(config)
            job = forecast_job(config, recipes, opened.examples)
            learner = learner or {job.studied: job.forecasters[job.studied]}
            run(replace(job, by=learner), quiet=True)
    print("done")


def lanes() -> None:
    """Members side by side and alone, after 50 steps: the norm of how their parameters differ, over that of these."""
    import jax
    import jax.numpy as jnp
    from hydra import compose, initialize_config_module
    from hydra.utils import instantiate

    from framework.runs.data_loading import examples_of

    count = 8
    with tempfile.TemporaryDirectory() as folder, initialize_config_module("conf", version_base="1.3"):
        steps = ["optimizer.steps=50", "optimizer.dropout=0.2", f"data.store={folder}/cohort"]
        config = compose("forecast", ["data=oasis2", "model=gru", *steps])
        model, examples = instantiate(config.model, _convert_="all"), examples_of(config)
        splits = [instantiate(config.split, _convert_="all", fold=m % 4).one(examples.cohort) for m in range(count)]
        keys = jax.random.split(jax.random.key(0), count)
        rates = jnp.geomspace(3e-4, 1e-2, count)
        alike = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), model.dynamic(examples.layout))
        dynamics = type(alike)(**{**vars(alike), "learning_rate": rates})
        beside = model.fit_many(examples, splits, keys, dynamics)
        norms, arrays = [], []
        for m in range(count):
            own = jax.tree.map(lambda x, m=m: x[m : m + 1], dynamics)
            [alone] = model.fit_many(examples, splits[m : m + 1], keys[m : m + 1], own)
            pairs = [*zip(*(jax.tree.leaves(one.params) for one in (beside[m], alone)), strict=True)]
            off = sum(float(((a - b) ** 2).sum()) for a, b in pairs)
            size = sum(float((b**2).sum()) for _, b in pairs)
            norms.append((off / size) ** 0.5)
            arrays += [float(abs(a - b).max() / abs(b).max()) for a, b in pairs if b.size]
    worst = max(norms)
    told = {"members": count, "relative": worst, "relative_of_worst_array": max(arrays)}
    print(json.dumps({**told, "ratio": 1e-5 / worst if worst else 1e5}))


def svm() -> None:
    """The grid as one program beside each point on each fold by itself, compiled once and warm."""
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

    def each() -> None:
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

    times = measure.interleave({"one program": turn(search), "one by one": turn(each)}, rounds=3, calls=3)
    told = {name: measure.summary(seconds) for name, seconds in times.items()}
    print(json.dumps({"times": told, **measure.against(times["one program"], times["one by one"])}))


def environment() -> None:
    """The device and the versions."""
    from benchmarks import networks

    print(json.dumps(networks.environment()))


if __name__ == "__main__":
    child = {"--warm": warm, "--lanes": lanes, "--svm": svm, "--environment": environment}
    child.get(sys.argv[1] if len(sys.argv) > 1 else "", main)()
