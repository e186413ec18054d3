"""The jobs of a sweep in few programs: jobs that differ only in arguments of a compiled program train side by side."""

import hashlib
import json
import logging
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

from framework.config.model_configs import ModelConfigs
from framework.config.validate import validate_config
from framework.errors import UserError
from framework.files import lock_folder, write_atomic
from framework.forecast.base import Fitted
from framework.forecast.fit_request import FitRequest
from framework.runs import identity
from framework.runs.certificate import raise_on_leaks
from framework.runs.execute import finish, forecast_job, run_job, use_compilation_cache
from framework.runs.folder import command_line
from framework.runs.identity import drop_keys
from framework.runs.job import Job
from framework.runs.progress import SweepProgress, TrainingProgress
from framework.runs.run_value import RunValue
from framework.sweeps.job_log import LaunchOptions
from framework.sweeps.pool import MAX_ATTEMPTS, Answer, ProcessPool, run_tasks
from framework.sweeps.worker import WorkerCache, build_task, rebuild_error
from framework.train.optimizer import TracedHyperparameters

logger = logging.getLogger(__name__)

Value = float | Exception
OnResult = Callable[[int, Value], None]
Jobs = Sequence[tuple[int, Job]]  # with their places in the sweep
JOBS_PER_PROCESS = 4  # jobs for which another process is worth its start
# keys in which jobs of one program may differ, apart from `fitted`
MEMBER_KEYS = ("split", "seed", "resamples", "training", "model")


def run_batched(
    configs: Sequence[DictConfig], options: LaunchOptions, on_result: Callable[[int, object], None]
) -> list[Value]:
    """Run `experiments.forecast` for each of these configs (with Hydra's own node); return its values or errors.

    Each job has its ordinary run folder, as if it had run alone. `on_result(place, value)` receives each result.
    """
    use_compilation_cache()
    values: list[Value] = [float("nan")] * len(configs)
    jobs = _build_jobs(configs)
    with SweepProgress(len(configs)) as progress:
        jobs = [replace(job, on_news=progress.show_running) if isinstance(job, Job) else job for job in jobs]

        def record(place: int, value: Value) -> None:
            values[place] = value
            progress(value)
            on_result(place, value)

        for program, places in _group_by_program(jobs).items():
            group = [(place, job) for place in places if isinstance(job := jobs[place], Job)]
            _run_group(group, program, options, record)
        for place, job in enumerate(jobs):
            if isinstance(job, Exception):
                record(place, job)
    return values


def group_jobs(configs: Sequence[DictConfig], max_jobs: int | None) -> list[list[int]]:
    """Return the places of unfinished jobs in groups that can share a program, of at most `max_jobs`.

    Finished jobs, and jobs that cannot be built, are in no group.
    """
    jobs = _build_jobs(configs)
    groups = [[place for place in group if not _is_finished(jobs[place])] for group in _group_by_program(jobs).values()]
    return [
        group[i : i + (max_jobs or len(group))]
        for group in groups
        for i in range(0, len(group), max_jobs or len(group) or 1)
    ]


def _is_finished(job: Job | Exception) -> bool:
    return isinstance(job, Job) and job.folder.finished


def _build_jobs(configs: Sequence[DictConfig]) -> list[Job | Exception]:
    cache = WorkerCache()
    models = ModelConfigs(configs[0].trust if configs else ())
    jobs: list[Job | Exception] = []
    for full in configs:
        HydraConfig.instance().set_config(full)
        try:
            config = OmegaConf.masked_copy(full, [str(key) for key in full if key != "hydra"])
            OmegaConf.resolve(config)
            validate_config(config, config.trust)  # which no file can set
            jobs.append(forecast_job(config, models, cache.load_examples))
        except Exception as error:  # reported at the end; the other jobs go on
            jobs.append(error)
    return jobs


def _group_by_program(jobs: Sequence[Job | Exception]) -> dict[str, list[int]]:
    """Return the places of jobs by the key of their program; each finished job is a group of its own."""
    groups: dict[str, list[int]] = {}
    for place, job in enumerate(jobs):
        if isinstance(job, Job):
            groups.setdefault(f"done {place}" if job.folder.finished else _program_key(job), []).append(place)
    return groups


def _program_key(job: Job) -> str:
    """Return the settings that jobs of one program share: all but splits, seeds and `TracedHyperparameters`."""
    traced = {field.name for field in fields(TracedHyperparameters)}

    def without_traced(node: object) -> object:
        if isinstance(node, Mapping):
            training = node.get("training")
            inner = {key: without_traced(value) for key, value in node.items()}
            if isinstance(training, Mapping):
                inner["training"] = drop_keys(training, (*traced, *(f"optimizer.{name}" for name in traced)))
            return inner
        return [without_traced(item) for item in node] if isinstance(node, list) else node

    common = drop_keys(job.resolved_config, (*identity.IRRELEVANT_KEYS, *MEMBER_KEYS))
    settings = {key: without_traced(value) for key, value in common.items()}
    return json.dumps([settings, job.train_examples.cohort.fingerprint, len(job.splits)], sort_keys=True)


def _run_group(group: Jobs, program: str, options: LaunchOptions, on_result: OnResult) -> None:
    """Run a group: sequentially where that is as fast, else side by side in waves, or alone if not one program.

    Jobs that differ only in settings that change no result are one run, which is made once and shown to the others.
    """
    first_of = {job.folder.path: place for place, job in reversed(group)}
    distinct = {place for place, job in group if first_of[job.folder.path] == place and not job.folder.finished}
    if len(distinct) < len(group):
        if distinct:
            _run_group([(place, job) for place, job in group if place in distinct], program, options, on_result)
        for place, job in group:
            if place not in distinct:
                on_result(place, _run_alone(job))
        return None
    first = group[0][1]
    hint = first.forecasters[first.studied].turns(first.train_examples, first.splits) if len(group) > 1 else None
    workers = min(hint.workers, -(-len(group) // JOBS_PER_PROCESS)) if hint else 0
    workers = workers if options.workers is None else options.workers
    if len(group) > 1 and workers:
        processes = f"in {workers} processes" if workers > 1 else "in one process"
        reason = f", because {hint.why}" if hint else ""
        logger.info("%d jobs train one after another %s%s", len(group), processes, reason)
        return _run_sequentially(group, program, workers, options.pool, on_result)
    wave_size = max(1, _jobs_per_wave(first, options.max_memory_gb)) if len(group) > 1 else 1
    for start in range(0, len(group), wave_size):
        wave = group[start : start + wave_size]
        for place, job in _run_side_by_side(wave, on_result) if len(wave) > 1 else wave:
            on_result(place, _run_alone(job))


def _run_sequentially(group: Jobs, program: str, workers: int, pool: ProcessPool, on_result: OnResult) -> None:
    """Run each job in one of so many processes, in which the step is compiled once."""

    def receive(number: int, answer: Answer) -> None:
        place, job = group[number]
        if "progress" in answer:
            assert job.on_news is not None
            return job.on_news(answer["progress"])
        if "killed" in answer:
            job.folder.set_status("killed", reason=answer["killed"])
            if answer["retry"]:
                logger.warning("job %d: %s; started again", place, answer["killed"])
                return
        if "run" in answer:
            on_result(place, RunValue.of(answer["value"], Path(answer["run"])))
        elif "killed" in answer:
            on_result(place, UserError(f"{answer['killed']}, in {MAX_ATTEMPTS} attempts"))
        else:
            on_result(place, rebuild_error(answer))

    run_tasks([build_task(job, program, command_line()) for _, job in group], workers, receive, pool)


def _run_side_by_side(wave: Jobs, on_result: OnResult) -> Jobs:
    """Run jobs as one program; return the jobs that remain to be run one by one."""
    with ExitStack() as locks:
        locked = []
        for place, job in wave:
            try:
                locks.enter_context(lock_folder(job.folder.path))
                locked.append((place, job))
            except UserError as error:
                on_result(place, error)
        if len(locked) < 2:
            return locked
        try:
            fitted = _fit_members([job for _, job in locked])
        except (UserError, RuntimeError, MemoryError) as error:
            if not (isinstance(error, UserError) or out_of_memory(error)):
                return _fail_all(locked, error, on_result)
            reason = "out of memory" if out_of_memory(error) else " ".join(str(error).split())
            logger.warning("%d jobs cannot train side by side (%s); one by one", len(locked), reason)
            return locked
        except Exception as error:
            return _fail_all(locked, error, on_result)
        for (place, job), member in zip(locked, fitted, strict=True):
            on_result(place, _finish_job(job, member))
        shutil.rmtree(_state_folder([job for _, job in locked]), ignore_errors=True)
        return []


def out_of_memory(error: Exception) -> bool:
    """Return whether memory was too small, of the machine or of a device (which XLA reports as a runtime error)."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _fail_all(jobs: Jobs, error: Exception, on_result: OnResult) -> Jobs:
    """Report a fault of the program for all jobs that trained side by side; none remains."""
    for place, _ in jobs:
        on_result(place, error)
    return []


def _jobs_per_wave(job: Job, max_memory_gb: float) -> int:
    member_bytes = job.forecasters[job.studied].member_bytes(job.train_examples, job.splits)
    return int(max_memory_gb * 1e9 // member_bytes) if member_bytes else sys.maxsize


def _fit_members(jobs: Sequence[Job]) -> Sequence[Fitted | UserError]:
    """Fit the forecaster under study of each job, all as one program."""
    first, name = jobs[0], jobs[0].studied
    folder = _state_folder(jobs)
    folder.mkdir(parents=True, exist_ok=True)
    splits = [split for job in jobs for split in job.splits]
    keys = jnp.concatenate([job.keys for job in jobs])
    of_jobs = [job.hyperparameters for job in jobs]
    hyperparameters = None if of_jobs[0] is None else jax.tree.map(lambda *x: jnp.concatenate(x), *of_jobs)
    with ExitStack() as stack:
        for job in jobs:
            job.start()
            stack.enter_context(job.folder.track_running(beside=len(jobs) - 1))
        log = stack.enter_context(TrainingProgress(name, folder / "metrics.jsonl", first.on_news))
        request = FitRequest(first.train_examples, splits, keys, hyperparameters, folder / "checkpoints", log)
        fitted = first.forecasters[name].try_many(request)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for lane, job in enumerate(jobs):
        curves = [json.dumps(row | {"member": 0}) + "\n" for row in rows if row["member"] == lane]
        write_atomic(job.folder.path / "metrics.jsonl", "".join(curves))
    return fitted


def _finish_job(job: Job, member: Fitted | UserError) -> Value:
    """Test the fitted member of a job, finish its run and return its value."""
    try:
        with job.folder.track_status():
            if isinstance(member, UserError):
                raise member
            references = {name: job.fit_and_test(name) for name in job.forecasters if name != job.studied}
            finish(job, {**references, job.studied: job.test(job.studied, [member])})
        raise_on_leaks(job.folder.path, job.config.allow_leaks)
        return RunValue.of(job.objective, job.folder.path)
    except Exception as error:  # recorded in its folder by `track_status`; the other jobs go on
        return error


def _run_alone(job: Job) -> Value:
    try:
        return run_job(job, quiet=True)
    except Exception as error:  # recorded in its folder; the other jobs go on
        return error


def _state_folder(jobs: Sequence[Job]) -> Path:
    """Return the folder of a group's state while it trains, found again by the same command."""
    digest = hashlib.sha256(" ".join(job.folder.path.name for job in jobs).encode()).hexdigest()[:12]
    return jobs[0].folder.path.parent.parent / "sweeps" / "batched" / digest
