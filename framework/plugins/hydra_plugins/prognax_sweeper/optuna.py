"""`hydra/sweeper=optuna`: a search whose trials any launcher runs, in batches."""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from framework.sweeps.search.settings import Settings


@dataclass
class OptunaConfig(Settings):
    """The keys are those of `Settings`."""

    _target_: str = "hydra_plugins.prognax_sweeper.optuna.Optuna"
    _convert_: str = "all"


class Optuna(Sweeper):
    """Sweeper that runs `framework.sweeps.search`, which is loaded when the search begins."""

    def __init__(self, **settings: Any):
        self.settings = Settings(**settings)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store the arguments of Hydra."""
        self.hydra_context, self.task, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> None:
        """Search. Raise UserError where Optuna is missing or the space cannot be searched."""
        from hydra_plugins.prognax_sweeper._impl import sweep

        sweep(self, arguments)


ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=OptunaConfig, provider="prognax")
