"""Groups of jobs handed to Slurm by submitit, and waited for."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import setup_globals
from omegaconf import DictConfig, OmegaConf

from framework.errors import InternalError, UserError
from framework.sweeps.batched import grouped

try:
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError, pickle_load
except ModuleNotFoundError:
    raise UserError("hydra/launcher=submitit_slurm needs submitit; pip install 'prognax[cluster]'") from None

ANYWHERE = {"timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb"}  # of submitit, whatever the cluster
POLL = 2.0  # seconds between looks at the queue
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
class Group:
    """What a Slurm job does; requeued it does it again, and its jobs go on from their checkpoints.

    submitit pickles it for its own process: nothing that came from elsewhere is ever loaded so.
    """

    task: Any
    how: Any
    configs: Sequence[DictConfig]
    state: Mapping

    def __call__(self) -> list[object]:
        Singleton.set_state(self.state)
        setup_globals()
        return self.task.together(self.configs, self.how)

    def checkpoint(self) -> "submitit.helpers.DelayedSubmission":
        """What submitit asks when the time limit is near."""
        return submitit.helpers.DelayedSubmission(self)


def values(launcher: Any, configs: Sequence[DictConfig]) -> list[object]:
    """What each job returned, None where it failed; those done already, or that cannot be made, are not sent away.

    Raises UserError where there is no Slurm, or it does not take the jobs.
    """
    task, how = launcher.vmap.task, launcher.vmap.how
    task.shared()
    if shutil.which("sbatch") is None:
        raise UserError(
            "there is no Slurm here (no sbatch); start it where jobs are submitted, or use hydra/launcher=vmap"
        )
    groups = grouped(configs, launcher.jobs)
    away = {place for group in groups for place in group}
    told: dict[int, object] = {}
    if at_hand := [place for place in range(len(configs)) if place not in away]:
        told |= zip(at_hand, task.together([configs[place] for place in at_hand], how), strict=True)
    if groups:
        state = Singleton.get_state()
        sent = [Group(task, how, [configs[place] for place in group], state) for group in groups]
        for group, ended in zip(groups, _run(launcher, sent), strict=True):
            if isinstance(ended, Exception):
                for place in group:
                    task.ended(configs[place].hydra, ended)
                ended = [None] * len(group)
            told |= zip(group, ended, strict=True)
    return [told[place] for place in range(len(configs))]


def _run(launcher: Any, groups: Sequence[Group]) -> list[list[object] | Exception]:
    """What the jobs of each group returned, or why the group was lost."""
    jobs = _submitted(launcher, groups)
    print(f"slurm: {sum(len(one.configs) for one in groups)} jobs in {len(jobs)} Slurm jobs, {jobs[0].job_id} to "
          f"{jobs[-1].job_id}; logs in {launcher.folder}", file=sys.stderr)  # fmt: skip
    try:
        return list(_awaited(jobs, launcher.patience))
    except KeyboardInterrupt:
        for job in jobs:
            job.cancel(check=False)
        raise


def _submitted(launcher: Any, groups: Sequence[Group]) -> list["submitit.Job"]:
    told = {key: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for key, v in launcher.resources.items()}
    executor = submitit.AutoExecutor(
        launcher.folder, cluster="slurm", slurm_max_num_timeout=told.pop("max_num_timeout")
    )
    wanted = {key: value for key, value in told.items() if value is not None}
    executor.update_parameters(
        name="prognax", **{key if key in ANYWHERE else f"slurm_{key}": value for key, value in wanted.items()}
    )
    try:
        return executor.submit_array(list(groups))
    except (FailedJobError, FailedSubmissionError) as error:
        line = next(line for line in reversed(str(error).strip().splitlines()) if line.strip())
        raise UserError(f"Slurm did not take the jobs ({line.strip()}); see hydra.launcher of --cfg hydra") from error


def _awaited(jobs: Sequence["submitit.Job"], patience: float) -> Iterable[list[object] | Exception]:
    """Each job's result once it is there. One that is gone from the queue without may come back: it may be requeued.

    The queue is asked, not the accounting, which many clusters do not have.
    """
    gone: dict[str, float] = {}
    results: dict[str, list[object] | Exception] = {}
    while len(results) < len(jobs):
        states = _states()
        for job in jobs:
            if job.job_id in results:
                continue
            if job.paths.result_pickle.exists():
                results[job.job_id] = _result(job)
            elif states is not None and states.get(job.job_id, "gone") in ENDED | {"gone"}:
                state = states.get(job.job_id, "gone from the queue")
                if time.monotonic() - gone.setdefault(job.job_id, time.monotonic()) > patience:
                    told = f"Slurm job {job.job_id} is {state.lower()}; see {job.paths.stderr}"
                    results[job.job_id] = UserError(told)
            else:
                gone.pop(job.job_id, None)
        time.sleep(POLL)
    return [results[job.job_id] for job in jobs]


def _states() -> dict[str, str] | None:
    """How each of the user's Slurm jobs stands; None while Slurm does not answer."""
    asked = subprocess.run(
        ["squeue", "--me", "-h", "-r", "-t", "all", "-o", "%i %T"], capture_output=True, text=True, check=False
    )
    if asked.returncode:
        return None
    return dict(line.split(maxsplit=1) for line in asked.stdout.splitlines())


def _result(job: "submitit.Job") -> list[object] | Exception:
    outcome, value = pickle_load(job.paths.result_pickle)
    if outcome == "success":
        return value
    return InternalError(f"internal error in Slurm job {job.job_id}: {value.strip().splitlines()[-1]}", value)
