"""Groups of jobs submitted to Slurm by submitit, and their results."""

import logging
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import setup_globals
from omegaconf import DictConfig, OmegaConf

from framework.errors import InternalError, UserError
from framework.sweeps.batched import group_jobs

try:
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError, pickle_load
except ModuleNotFoundError:
    raise UserError("hydra/launcher=submitit_slurm needs submitit; pip install 'prognax[cluster]'") from None

logger = logging.getLogger(__name__)

COMMON = {"timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb"}  # names of submitit for any cluster
POLL = 2.0  # seconds between queries of the queue
ENDED = {
    "COMPLETED",
    "CANCELLED",
    "FAILED",
    "TIMEOUT",
    "NODE_FAIL",
    "PREEMPTED",
    "OUT_OF_MEMORY",
    "BOOT_FAIL",
    "DEADLINE",
}


@dataclass(frozen=True)
class JobGroup:
    """Function of a Slurm job; when requeued it runs again, and its jobs resume from their checkpoints.

    submitit pickles it for its own process; no file of unknown origin is ever unpickled.
    """

    task: Any
    options: Any
    configs: Sequence[DictConfig]
    state: Mapping

    def __call__(self) -> list[object]:
        Singleton.set_state(self.state)
        setup_globals()
        return self.task.run_batch(self.configs, self.options)

    def checkpoint(self) -> "submitit.helpers.DelayedSubmission":
        """Return the submission that submitit repeats when the time limit is near."""
        return submitit.helpers.DelayedSubmission(self)


def run_groups(launcher: Any, configs: Sequence[DictConfig]) -> list[object]:
    """Return the value of each job, None where it failed; finished and invalid jobs are not submitted.

    Raise UserError where there is no Slurm, or it rejects the jobs.
    """
    task, options = launcher.vmap.task, launcher.vmap.options
    task.require_batch_runner()
    if shutil.which("sbatch") is None:
        raise UserError(
            "no Slurm was found (no sbatch); start the command where jobs are submitted, or use hydra/launcher=vmap"
        )
    groups = group_jobs(configs, launcher.jobs)
    submitted = {place for group in groups for place in group}
    values: dict[int, object] = {}
    if local := [place for place in range(len(configs)) if place not in submitted]:
        values |= zip(local, task.run_batch([configs[place] for place in local], options), strict=True)
    if groups:
        state = Singleton.get_state()
        job_groups = [JobGroup(task, options, [configs[place] for place in group], state) for group in groups]
        for group, result in zip(groups, _run_in_slurm(launcher, job_groups), strict=True):
            if isinstance(result, Exception):
                for place in group:
                    task.record(configs[place].hydra, result)
                result = [None] * len(group)
            values |= zip(group, result, strict=True)
    return [values[place] for place in range(len(configs))]


def _run_in_slurm(launcher: Any, groups: Sequence[JobGroup]) -> list[list[object] | Exception]:
    """Return the values of the jobs of each group, or the error of the group."""
    jobs = _submit(launcher, groups)
    number = sum(len(group.configs) for group in groups)
    message = "slurm: %d jobs in %d Slurm jobs, %s to %s; logs in %s"
    logger.info(message, number, len(jobs), jobs[0].job_id, jobs[-1].job_id, launcher.folder)
    try:
        return list(_await_results(jobs, launcher.patience))
    except KeyboardInterrupt:
        for job in jobs:
            job.cancel(check=False)
        raise


def _submit(launcher: Any, groups: Sequence[JobGroup]) -> list["submitit.Job"]:
    resources = {
        key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        for key, value in launcher.resources.items()
        if value is not None
    }
    executor = submitit.AutoExecutor(
        launcher.folder, cluster="slurm", slurm_max_num_timeout=resources.pop("max_num_timeout", None)
    )
    executor.update_parameters(
        name="prognax", **{key if key in COMMON else f"slurm_{key}": value for key, value in resources.items()}
    )
    try:
        return executor.submit_array(list(groups))
    except (FailedJobError, FailedSubmissionError) as error:
        line = next(line for line in reversed(str(error).strip().splitlines()) if line.strip())
        raise UserError(f"Slurm rejected the jobs ({line.strip()}); see hydra.launcher of --cfg hydra") from error


def _await_results(jobs: Sequence["submitit.Job"], patience: float) -> Iterable[list[object] | Exception]:
    """Wait for the result of each job. A job that left the queue without a result may be requeued within `patience`.

    The queue is queried, not the accounting, which many clusters do not have.
    """
    gone: dict[str, float] = {}
    results: dict[str, list[object] | Exception] = {}
    while len(results) < len(jobs):
        states = _queue_states()
        for job in jobs:
            if job.job_id in results:
                continue
            if job.paths.result_pickle.exists():
                results[job.job_id] = _read_result(job)
            elif states is not None and states.get(job.job_id, "gone") in ENDED | {"gone"}:
                state = states.get(job.job_id, "gone from the queue")
                if time.monotonic() - gone.setdefault(job.job_id, time.monotonic()) > patience:
                    results[job.job_id] = UserError(
                        f"Slurm job {job.job_id} is {state.lower()}; see {job.paths.stderr}"
                    )
            else:
                gone.pop(job.job_id, None)
        time.sleep(POLL)
    return [results[job.job_id] for job in jobs]


def _queue_states() -> dict[str, str] | None:
    """Return the state of each of the user's Slurm jobs; None while Slurm does not answer."""
    queue = subprocess.run(
        ["squeue", "--me", "-h", "-r", "-t", "all", "-o", "%i %T"], capture_output=True, text=True, check=False
    )
    if queue.returncode:
        return None
    return dict(line.split(maxsplit=1) for line in queue.stdout.splitlines())


def _read_result(job: "submitit.Job") -> list[object] | Exception:
    outcome, value = pickle_load(job.paths.result_pickle)
    if outcome == "success":
        return value
    return InternalError(f"internal error in Slurm job {job.job_id}: {value.strip().splitlines()[-1]}", value)
