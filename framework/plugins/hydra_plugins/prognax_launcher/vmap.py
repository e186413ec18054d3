"""`hydra/launcher=vmap`: the jobs of a sweep in this one process, as many as can be in one program."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.prognax_launcher._composing import Composing
from omegaconf import DictConfig, open_dict

from framework.files import lock_folder
from framework.sweeps.job_log import How


@dataclass
class VmapConfig:
    """See `framework.sweeps.job_log.How`; `workers` null: as the model says."""

    _target_: str = "hydra_plugins.prognax_launcher.vmap.Vmap"
    gigabytes: float = 4.0
    workers: int | None = None


class Vmap(Launcher):
    """Hands all jobs to the command at once, which knows how to train them side by side."""

    def __init__(self, gigabytes: float, workers: int | None):
        self.how = How(gigabytes, workers)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Remember what Hydra hands over; from here on it composes jobs as far as they differ."""
        hydra_context.config_loader = cast(ConfigLoader, Composing(hydra_context.config_loader))
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """What each job returned, in order."""
        if self.how.workers != 0 and len(job_overrides) > 1:
            self.how.processes.ahead()  # it loads while the jobs are composed
        setup_globals()
        configs = [self.job(overrides, initial_job_idx + i) for i, overrides in enumerate(job_overrides)]
        with lock_folder(Path(self.config.hydra.sweep.dir)):
            values = self.task.together(configs, self.how)
        return [self.returned(config, value) for config, value in zip(configs, values, strict=True)]

    def job(self, overrides: Sequence[str], number: int) -> DictConfig:
        """The config of a job, Hydra's own node in it."""
        config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = f"job_{number}", number
        return config

    def returned(self, config: DictConfig, value: object) -> JobReturn:
        """A job's value as Hydra's sweepers take it."""
        return run_job(
            task_function=lambda _: value,
            config=config,
            hydra_context=self.context,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )


ConfigStore.instance().store(group="hydra/launcher", name="vmap", node=VmapConfig, provider="prognax")
