"""`hydra/launcher=submitit_slurm`: jobs that can share a program are one Slurm job."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.prognax_launcher.vmap import Vmap
from omegaconf import DictConfig


class Slurm(Launcher):
    """Groups the jobs of a sweep as `Vmap` does, and has Slurm train each group on a machine of its own.

    `resources` are those of `conf/hydra/launcher/submitit_slurm.yaml`; null leaves one to the cluster.
    """

    def __init__(self, jobs: int | None, gigabytes: float, patience: float, folder: str, **resources: Any):
        self.jobs, self.patience, self.folder, self.resources = jobs, patience, folder, resources
        self.vmap = Vmap(gigabytes, workers=None)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Remember what Hydra hands over."""
        self.vmap.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """What each job returned, in order. Raises UserError where there is no Slurm, or it takes no jobs."""
        from hydra_plugins.prognax_launcher._slurm import values

        setup_globals()
        configs = [self.vmap.job(overrides, initial_job_idx + i) for i, overrides in enumerate(job_overrides)]
        told = values(self, configs)
        return [self.vmap.returned(config, value) for config, value in zip(configs, told, strict=True)]
