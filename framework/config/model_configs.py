"""The forecasters of a study: what Hydra composes for a name, and what the tables call what was composed."""

from collections.abc import Sequence

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from framework.config.validate import check
from framework.errors import UserError, suggest

FLOORS = ("last_visit", "slope")


class Recipes:
    """Composed once each, however many jobs of a sweep ask: composing takes longer than some models' training.

    `trust` names the packages that the user's own command line trusts.
    """

    def __init__(self, trust: Sequence[str] = ()):
        self._trust = tuple(trust)
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def model(self, name: str, overrides: Sequence[str] = ()) -> DictConfig:
        """The config of a model by its name in conf/model, or of the deep one by its head's in conf/model/head.

        It has everything that the command line says of the rest. Overrides that choose a `model` say themselves what
        the name stands for.
        """
        told = [
            o
            for o in HydraConfig.get().overrides.task
            if not o.lstrip("+~").startswith(("model", "settings", "repeats", "fewer"))
        ]
        if name in FLOORS:  # they have nothing to set, and an experiment may set parts that they lack
            told = []
        own = any(override.startswith("model=") for override in overrides)
        return self._compose(*told, *([] if own else _chosen(name)), *overrides).model

    def name(self) -> str:
        """What the leaderboard calls the forecaster: its name in conf/model, or its parts where others were chosen."""
        choices = HydraConfig.get().runtime.choices
        model, parts = choices["model"], ("model/encoder", "model/head")
        usual = self._compose(f"model={model}").hydra.runtime.choices
        if model != "deep" and all(choices.get(part) == usual.get(part) for part in parts):
            return model
        encoder, head = (choices.get(part, model) for part in parts)
        return head if encoder == "tabular" else f"{encoder}_{head}"

    def _compose(self, *overrides: str) -> DictConfig:
        if overrides not in self._composed:
            made = compose("forecast", [*overrides], return_hydra_config=True)
            check(OmegaConf.masked_copy(made, [str(key) for key in made if key != "hydra"]), self._trust)
            self._composed[overrides] = made
        return self._composed[overrides]


def _chosen(name: str) -> list[str]:
    """What stands for a name: a model, or the deep one with that head. Raises UserError where neither is found."""
    loader = GlobalHydra.instance().config_loader()  # which knows the user's own folder as well
    models, heads = (loader.get_group_options(group) for group in ("model", "model/head"))
    if name in models:
        return [f"model={name}"]
    if name in heads:
        return ["model=deep", f"model/head={name}"]
    suggestion = suggest(name, [*models, *heads], "choose one, or say in settings what it stands for")
    raise UserError(f"no model and no head is called {name!r}; {suggestion} There are {', '.join([*models, *heads])}")
