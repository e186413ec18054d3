"""`hydra/launcher=vmap`: the jobs of a sweep in one process, in as few programs as possible."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.prognax_launcher._composing import CachingConfigLoader
from omegaconf import DictConfig, open_dict

from framework.files import lock_folder
from framework.sweeps.job_log import LaunchOptions


@dataclass
class VmapConfig:
    """See `framework.sweeps.job_log.LaunchOptions`; `workers` null: chosen by the model."""

    _target_: str = "hydra_plugins.prognax_launcher.vmap.Vmap"
    max_memory_gb: float = 4.0
    workers: int | None = None


class Vmap(Launcher):
    """Launcher that gives all jobs to the command at once, which trains them side by side."""

    def __init__(self, max_memory_gb: float, workers: int | None):
        self.options = LaunchOptions(max_memory_gb, workers)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store the arguments of Hydra, with a config loader that composes jobs only as far as they differ."""
        hydra_context.config_loader = cast(ConfigLoader, CachingConfigLoader(hydra_context.config_loader))
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Return the value of each job, in order."""
        if self.options.workers != 0 and len(job_overrides) > 1:
            self.options.pool.prewarm()  # it loads its modules while the jobs are composed
        setup_globals()
        configs = [self.compose_job(overrides, initial_job_idx + i) for i, overrides in enumerate(job_overrides)]
        with lock_folder(Path(self.config.hydra.sweep.dir)):
            values = self.task.run_batch(configs, self.options)
        return [self.job_return(config, value) for config, value in zip(configs, values, strict=True)]

    def compose_job(self, overrides: Sequence[str], number: int) -> DictConfig:
        """Compose the config of a job, with Hydra's own node."""
        config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = f"job_{number}", number
        return config

    def job_return(self, config: DictConfig, value: object) -> JobReturn:
        """Return a job's value as Hydra's sweepers expect it."""
        return run_job(
            task_function=lambda _: value,
            config=config,
            hydra_context=self.context,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )


ConfigStore.instance().store(group="hydra/launcher", name="vmap", node=VmapConfig, provider="prognax")
