"""The jobs of a sweep as few programs: those that differ only in what a program takes as arrays train side by side."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import jax
import jax.numpy as jnp
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from framework.data.examples import Examples
from framework.errors import UserError
from framework.forecast.base import Fitted
from framework.launch.certificate import uphold
from framework.launch.check import check
from framework.launch.folder import write_whole
from framework.launch.job import Job
from framework.launch.progress import Sweep, Training
from framework.launch.recipes import Recipes
from framework.launch.run import forecast_job, run, use_compilation_cache
from framework.launch.study import examples_of
from framework.launch.sweep import Ran
from framework.launch.tested import Tested
from framework.train.optimizer import Dynamic

Value = float | Exception
FREE = ("split", "seed", "resamples", "optimizer", "model", "runs", "hydra", "report", "trust")  # apart from `fitted`


def together(configs: Sequence[DictConfig], gigabytes: float, told: Callable[[int, object], None]) -> list[Value]:
    """What `experiments.forecast` returns for each of these configs (with Hydra's own node), or why it failed.

    Each has its ordinary run folder, as if it had been run alone. `told(place, value)` hears of each as it ends.
    """
    use_compilation_cache()
    values: list[Value] = [float("nan")] * len(configs)
    jobs = _jobs(configs)
    with Sweep(len(configs)) as shown:

        def ended(place: int, value: Value) -> None:
            values[place] = value
            shown(value)
            told(place, value)

        for group in _groups(jobs):
            _run([(place, job) for place in group if isinstance(job := jobs[place], Job)], gigabytes, ended)
        for place, job in enumerate(jobs):
            if isinstance(job, Exception):
                ended(place, job)
    return values


def grouped(configs: Sequence[DictConfig], most: int | None) -> list[list[int]]:
    """Places of the jobs that are still to be trained and can share a program, at most so many together.

    Those that are done, or cannot be made, are in none.
    """
    jobs = _jobs(configs)
    groups = [[place for place in group if not _finished_before(jobs[place])] for group in _groups(jobs)]
    return [
        group[i : i + (most or len(group))] for group in groups for i in range(0, len(group), most or len(group) or 1)
    ]


def _finished_before(job: Job | Exception) -> bool:
    return isinstance(job, Job) and job.folder.finished


def _jobs(configs: Sequence[DictConfig]) -> list[Job | Exception]:
    recipes, seen = Recipes(), _Once()
    made: list[Job | Exception] = []
    for full in configs:
        HydraConfig.instance().set_config(full)
        try:
            config = OmegaConf.masked_copy(full, [str(key) for key in full if key != "hydra"])
            OmegaConf.resolve(config)
            check(config)
            made.append(forecast_job(config, recipes, seen))
        except Exception as error:  # told at the end; the other jobs go on
            made.append(error)
    return made


class _Once:
    """The examples of each data config, opened once: what is asked and cached of them serves all jobs."""

    def __init__(self):
        self._made: dict[str, Examples] = {}

    def __call__(self, config: DictConfig) -> Examples:
        key = json.dumps([OmegaConf.to_container(config.data, resolve=True), config.ask], sort_keys=True)
        if key not in self._made:
            self._made[key] = examples_of(config)
        return self._made[key]


def _groups(jobs: Sequence[Job | Exception]) -> list[list[int]]:
    """Places of the jobs that can share a program, finished ones and repeated ones by themselves."""
    groups: dict[str, list[int]] = {}
    for place, job in enumerate(jobs):
        if isinstance(job, Job):
            groups.setdefault(f"done {place}" if job.folder.finished else _alike(job), []).append(place)
    return list(groups.values())


def _alike(job: Job) -> str:
    """What must be equal for two jobs to share a program: all but splits, seeds and the settings of `Dynamic`."""
    free = {field.name for field in fields(Dynamic)}

    def bare(node: object) -> object:
        if isinstance(node, Mapping):
            training = node.get("training")
            inner = {key: bare(value) for key, value in node.items()}
            if isinstance(training, Mapping):
                inner["training"] = {key: value for key, value in training.items() if key not in free}
            return inner
        return [bare(item) for item in node] if isinstance(node, list) else node

    same = {key: bare(value) for key, value in job.what.items() if key not in FREE}
    return json.dumps([same, job.known.cohort.fingerprint, len(job.splits)], sort_keys=True)


def _run(group: Sequence[tuple[int, Job]], gigabytes: float, ended: Callable[[int, Value], None]) -> None:
    """One group, in waves; one by one where it cannot be one program."""
    wave = max(1, _wave(group[0][1], gigabytes))
    for start in range(0, len(group), wave):
        some = group[start : start + wave]
        fitted: Mapping[str, Sequence[Fitted | UserError]] | None = None
        if len(some) > 1:
            try:
                fitted = _fitted([job for _, job in some])
            except (UserError, RuntimeError, MemoryError) as error:
                reason = " ".join(str(error).split())
                print(f"{len(some)} jobs cannot train side by side ({reason}); one by one", file=sys.stderr)
        for lane, (place, job) in enumerate(some):
            ended(place, _finished(job, None if fitted is None else {name: own[lane] for name, own in fitted.items()}))
        if fitted is not None:
            shutil.rmtree(_folder([job for _, job in some]), ignore_errors=True)


def _wave(job: Job, gigabytes: float) -> int:
    name = _name(job)
    each = job.forecasters[name].member_bytes(job.known, job.splits)
    return int(gigabytes * 1e9 // each) if each else sys.maxsize


def _fitted(jobs: Sequence[Job]) -> dict[str, Sequence[Fitted | UserError]]:
    """The forecaster of each job, all trained as one program."""
    first, name = jobs[0], _name(jobs[0])
    folder = _folder(jobs)
    folder.mkdir(parents=True, exist_ok=True)
    splits = [split for job in jobs for split in job.splits]
    keys = jnp.concatenate([job.keys for job in jobs])
    each = [job.forecasters[name].dynamic(job.known.layout) for job in jobs]
    dynamics = None if each[0] is None else jax.tree.map(lambda *x: jnp.stack(x), *each)
    for job in jobs:
        job.start()
        job.folder.stands("running", beside=len(jobs) - 1)
    with Training(name, folder / "metrics.jsonl") as log:
        checkpoints = folder / "checkpoints"
        fitted = first.forecasters[name].try_many(first.known, splits, keys, dynamics, checkpoints, log)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for lane, job in enumerate(jobs):
        own = [json.dumps(row | {"member": 0}) + "\n" for row in rows if row["member"] == lane]
        write_whole(job.folder.path / "metrics.jsonl", "".join(own))
    return {name: fitted}


def _finished(job: Job, lane: Mapping[str, Fitted | UserError] | None) -> Value:
    """The value of a job whose forecaster is in `lane`, or is still to be fitted (None)."""
    try:
        if lane is None:
            return run(job, quiet=True)
        with job.folder.watched():
            tested: dict[str, Tested] = {}
            for name in job.forecasters:
                own = lane.get(name)
                if isinstance(own, UserError):
                    raise own
                tested[name] = job.tested(name) if own is None else job.test(name, [own])
            job.finish(tested)
        uphold(job.folder.path, job.config.accept)
        return Ran.of(job.objective, job.folder.path)
    except Exception as error:  # marked in its folder by `watched`; the other jobs go on
        return error


def _name(job: Job) -> str:
    """The forecaster under study: the last, beside the floors."""
    return list(job.forecasters)[-1]


def _folder(jobs: Sequence[Job]) -> Path:
    """Where a group keeps its state while it trains, found again by the same command."""
    digest = hashlib.sha256(" ".join(job.folder.path.name for job in jobs).encode()).hexdigest()[:12]
    return jobs[0].folder.path.parent.parent / "sweeps" / "together" / digest
