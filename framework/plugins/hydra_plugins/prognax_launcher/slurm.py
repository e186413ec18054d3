"""`hydra/launcher=submitit_slurm`: jobs that can share a program are one Slurm job."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.prognax_launcher.vmap import Vmap
from omegaconf import DictConfig


class Slurm(Launcher):
    """Launcher that groups the jobs of a sweep as `Vmap` does, and trains each group as a Slurm job.

    `resources` are those of `conf/hydra/launcher/submitit_slurm.yaml`; null: the cluster's default.
    """

    def __init__(self, jobs: int | None, max_memory_gb: float, patience: float, folder: str, **resources: Any):
        self.jobs, self.patience, self.folder, self.resources = jobs, patience, folder, resources
        self.vmap = Vmap(max_memory_gb, workers=None)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store the arguments of Hydra."""
        self.vmap.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Return the value of each job, in order. Raise UserError where there is no Slurm, or it rejects the jobs."""
        from hydra_plugins.prognax_launcher._slurm import run_groups

        setup_globals()
        configs = [self.vmap.compose_job(overrides, initial_job_idx + i) for i, overrides in enumerate(job_overrides)]
        values = run_groups(self, configs)
        return [self.vmap.job_return(config, value) for config, value in zip(configs, values, strict=True)]
