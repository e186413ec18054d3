"""The jobs of a sweep as few programs: those that differ only in what a program takes as arrays train side by side."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path

import jax
import jax.numpy as jnp
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from framework.config.model_configs import Recipes
from framework.config.validate import check
from framework.errors import UserError
from framework.files import lock_folder, write_atomic
from framework.forecast.base import Fitted
from framework.runs import identity
from framework.runs.certificate import uphold
from framework.runs.execute import forecast_job, run, use_compilation_cache
from framework.runs.folder import command_line
from framework.runs.identity import without
from framework.runs.job import Job
from framework.runs.progress import Sweep, Training
from framework.runs.run_value import Ran
from framework.sweeps.job_log import How
from framework.sweeps.pool import BEGUN, Answer, Processes, share
from framework.sweeps.worker import Warm, raised, task
from framework.train.optimizer import TracedHyperparameters

Value = float | Exception
Ended = Callable[[int, Value], None]
Jobs = Sequence[tuple[int, Job]]  # with their places in the sweep
WORTH = 4  # jobs for which a process more is worth starting
# what jobs of one program may differ in besides, apart from `fitted`
SHARED = ("split", "seed", "resamples", "optimizer", "model")


def together(configs: Sequence[DictConfig], how: How, told: Callable[[int, object], None]) -> list[Value]:
    """What `experiments.forecast` returns for each of these configs (with Hydra's own node), or why it failed.

    Each has its ordinary run folder, as if it had been run alone. `told(place, value)` hears of each as it ends.
    """
    use_compilation_cache()
    values: list[Value] = [float("nan")] * len(configs)
    jobs = _jobs(configs)
    with Sweep(len(configs)) as shown:
        jobs = [replace(job, said=shown.doing) if isinstance(job, Job) else job for job in jobs]

        def ended(place: int, value: Value) -> None:
            values[place] = value
            shown(value)
            told(place, value)

        for alike, places in _groups(jobs).items():
            _run([(place, job) for place in places if isinstance(job := jobs[place], Job)], alike, how, ended)
        for place, job in enumerate(jobs):
            if isinstance(job, Exception):
                ended(place, job)
    return values


def grouped(configs: Sequence[DictConfig], most: int | None) -> list[list[int]]:
    """Places of the jobs that are still to be trained and can share a program, at most so many together.

    Those that are done, or cannot be made, are in none.
    """
    jobs = _jobs(configs)
    groups = [[place for place in group if not _finished_before(jobs[place])] for group in _groups(jobs).values()]
    return [
        group[i : i + (most or len(group))] for group in groups for i in range(0, len(group), most or len(group) or 1)
    ]


def _finished_before(job: Job | Exception) -> bool:
    return isinstance(job, Job) and job.folder.finished


def _jobs(configs: Sequence[DictConfig]) -> list[Job | Exception]:
    warm = Warm()
    recipes = Recipes(configs[0].trust if configs else ())
    made: list[Job | Exception] = []
    for full in configs:
        HydraConfig.instance().set_config(full)
        try:
            config = OmegaConf.masked_copy(full, [str(key) for key in full if key != "hydra"])
            OmegaConf.resolve(config)
            check(config, config.trust)  # which no file can set
            made.append(forecast_job(config, recipes, warm.examples))
        except Exception as error:  # told at the end; the other jobs go on
            made.append(error)
    return made


def _groups(jobs: Sequence[Job | Exception]) -> dict[str, list[int]]:
    """Places of the jobs that can share a program, finished ones and repeated ones by themselves."""
    groups: dict[str, list[int]] = {}
    for place, job in enumerate(jobs):
        if isinstance(job, Job):
            groups.setdefault(f"done {place}" if job.folder.finished else _alike(job), []).append(place)
    return groups


def _alike(job: Job) -> str:
    """What must be equal for two jobs to share a program: all but splits, seeds and `TracedHyperparameters`."""
    free = {field.name for field in fields(TracedHyperparameters)}

    def bare(node: object) -> object:
        if isinstance(node, Mapping):
            training = node.get("training")
            inner = {key: bare(value) for key, value in node.items()}
            if isinstance(training, Mapping):
                inner["training"] = {key: value for key, value in training.items() if key not in free}
            return inner
        return [bare(item) for item in node] if isinstance(node, list) else node

    same = {key: bare(value) for key, value in without(job.what, (*identity.FREE, *SHARED)).items()}
    return json.dumps([same, job.known.cohort.fingerprint, len(job.splits)], sort_keys=True)


def _run(group: Jobs, alike: str, how: How, ended: Ended) -> None:
    """One group: in turn where that is as fast, else side by side in waves, or alone where it cannot be one program.

    Jobs that differ in nothing that changes results are one run, which is made once and shown to the others.
    """
    first_of = {job.folder.path: place for place, job in reversed(group)}
    own = {place for place, job in group if first_of[job.folder.path] == place and not job.folder.finished}
    if len(own) < len(group):
        if own:
            _run([(place, job) for place, job in group if place in own], alike, how, ended)
        for place, job in group:
            if place not in own:
                ended(place, _alone(job))
        return None
    first = group[0][1]
    turns = first.forecasters[first.studied].turns(first.known, first.splits) if len(group) > 1 else None
    workers = min(turns.workers, -(-len(group) // WORTH)) if turns else 0
    workers = workers if how.workers is None else how.workers
    if len(group) > 1 and workers:
        shared = f"in {workers} processes" if workers > 1 else "in one process"
        why = f", because {turns.why}" if turns else ""
        print(f"{len(group)} jobs train in turn {shared}{why}", file=sys.stderr)
        return _in_turn(group, alike, workers, how.processes, ended)
    wave = max(1, _wave(first, how.gigabytes)) if len(group) > 1 else 1
    for start in range(0, len(group), wave):
        some = group[start : start + wave]
        for place, job in _together(some, ended) if len(some) > 1 else some:
            ended(place, _alone(job))


def _in_turn(group: Jobs, alike: str, workers: int, processes: Processes, ended: Ended) -> None:
    """Each job by one of so many processes, where the step is compiled once."""

    def told(number: int, answer: Answer) -> None:
        place, job = group[number]
        if "said" in answer:
            assert job.said is not None
            return job.said(answer["said"])
        if "killed" in answer:
            job.folder.stands("killed", reason=answer["killed"])
            if answer["again"]:
                print(f"job {place}: {answer['killed']}; begun again", file=sys.stderr)
                return
        if "run" in answer:
            ended(place, Ran.of(answer["value"], Path(answer["run"])))
        elif "killed" in answer:
            ended(place, UserError(f"{answer['killed']}, {BEGUN} times over"))
        else:
            ended(place, raised(answer))

    share([task(job, alike, command_line()) for _, job in group], workers, told, processes)


def _together(some: Jobs, ended: Ended) -> Jobs:
    """Those jobs done as one program; what is left to be done one by one."""
    with ExitStack() as claims:
        free = []
        for place, job in some:
            try:
                claims.enter_context(lock_folder(job.folder.path))
                free.append((place, job))
            except UserError as error:
                ended(place, error)
        if len(free) < 2:
            return free
        try:
            fitted = _fitted([job for _, job in free])
        except (UserError, RuntimeError, MemoryError) as error:
            if not (isinstance(error, UserError) or out_of_memory(error)):
                return _lost(free, error, ended)
            reason = "out of memory" if out_of_memory(error) else " ".join(str(error).split())
            print(f"{len(free)} jobs cannot train side by side ({reason}); one by one", file=sys.stderr)
            return free
        except Exception as error:
            return _lost(free, error, ended)
        for (place, job), one in zip(free, fitted, strict=True):
            ended(place, _finished(job, one))
        shutil.rmtree(_folder([job for _, job in free]), ignore_errors=True)
        return []


def out_of_memory(error: Exception) -> bool:
    """Whether memory was too small, of the machine or of a device (which XLA reports as an error of the run)."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _lost(some: Jobs, error: Exception, ended: Ended) -> Jobs:
    """No job is left: a fault of the program is that of all who trained side by side."""
    for place, _ in some:
        ended(place, error)
    return []


def _wave(job: Job, gigabytes: float) -> int:
    each = job.forecasters[job.studied].member_bytes(job.known, job.splits)
    return int(gigabytes * 1e9 // each) if each else sys.maxsize


def _fitted(jobs: Sequence[Job]) -> Sequence[Fitted | UserError]:
    """What each job studies, all trained as one program."""
    first, name = jobs[0], jobs[0].studied
    folder = _folder(jobs)
    folder.mkdir(parents=True, exist_ok=True)
    splits = [split for job in jobs for split in job.splits]
    keys = jnp.concatenate([job.keys for job in jobs])
    each = [job.dynamics for job in jobs]
    dynamics = None if each[0] is None else jax.tree.map(lambda *x: jnp.concatenate(x), *each)
    with ExitStack() as stack:
        for job in jobs:
            job.start()
            stack.enter_context(job.folder.underway(beside=len(jobs) - 1))
        log = stack.enter_context(Training(name, folder / "metrics.jsonl", first.said))
        checkpoints = folder / "checkpoints"
        fitted = first.forecasters[name].try_many(first.known, splits, keys, dynamics, checkpoints, log)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for lane, job in enumerate(jobs):
        own = [json.dumps(row | {"member": 0}) + "\n" for row in rows if row["member"] == lane]
        write_atomic(job.folder.path / "metrics.jsonl", "".join(own))
    return fitted


def _finished(job: Job, studied: Fitted | UserError) -> Value:
    """The value of a job of which that is fitted."""
    try:
        with job.folder.watched():
            if isinstance(studied, UserError):
                raise studied
            floors = {name: job.tested(name) for name in job.forecasters if name != job.studied}
            job.finish({**floors, job.studied: job.test(job.studied, [studied])})
        uphold(job.folder.path, job.config.accept)
        return Ran.of(job.objective, job.folder.path)
    except Exception as error:  # marked in its folder by `watched`; the other jobs go on
        return error


def _alone(job: Job) -> Value:
    try:
        return run(job, quiet=True)
    except Exception as error:  # marked in its folder; the other jobs go on
        return error


def _folder(jobs: Sequence[Job]) -> Path:
    """Where a group keeps its state while it trains, found again by the same command."""
    digest = hashlib.sha256(" ".join(job.folder.path.name for job in jobs).encode()).hexdigest()[:12]
    return jobs[0].folder.path.parent.parent / "sweeps" / "together" / digest
