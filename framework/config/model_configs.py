"""Configurations of a study's forecasters, composed by Hydra from a name, and the name of the one under study."""

from collections.abc import Mapping, Sequence
from typing import cast

from hydra import compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from framework.config.validate import validate_config
from framework.errors import UserError, suggest

REFERENCES = ("last_visit", "slope")


class ModelConfigs:
    """Configurations of models, composed once each for all jobs of a sweep: composing may take longer than training.

    `trust` names the packages that the user's own command line trusts.
    """

    def __init__(self, trust: Sequence[str] = ()):
        self._trust = tuple(trust)
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def compose_model(self, name: str, overrides: Sequence[str] = ()) -> DictConfig:
        """Compose the config of a model of conf/model, or of the deep model with a head of conf/model/head.

        Everything else is as the command line sets it. Overrides that choose a `model` define the name themselves.
        """
        shared = [
            override
            for override in HydraConfig.get().overrides.task
            if not override.lstrip("+~").startswith(("model", "repeats"))
        ]
        if name in REFERENCES:  # they have no settings, and an experiment may set parts that they lack
            shared = []
        chosen = [] if any(override.startswith("model=") for override in overrides) else _overrides_for(name)
        return self._compose(*shared, *chosen, *overrides).model

    def studied_name(self) -> str:
        """Return the leaderboard's name of the forecaster: its name in conf/model, or that of its parts if changed."""
        choices = HydraConfig.get().runtime.choices
        model, parts = choices["model"], ("model/encoder", "model/head")
        defaults = _choices(f"model={model}")
        if model != "deep" and all(choices.get(part) == defaults.get(part) for part in parts):
            return model
        encoder, head = (choices.get(part, model) for part in parts)
        return head if encoder == "tabular" else f"{encoder}_{head}"

    def _compose(self, *overrides: str) -> DictConfig:
        if overrides not in self._composed:
            config = compose("forecast", [*overrides])
            validate_config(config, self._trust)
            self._composed[overrides] = config
        return self._composed[overrides]


def _choices(override: str) -> Mapping[str, str | None]:
    """Return the options of all groups under an override, without composing the files: that takes long."""
    loader = cast(ConfigLoaderImpl, GlobalHydra.instance().config_loader())
    overrides, repo = loader._parse_overrides_and_create_caching_repo("forecast", [override])
    return create_defaults_list(
        repo, "forecast", overrides, prepend_hydra=True, skip_missing=False
    ).overrides.known_choices


def _overrides_for(name: str) -> list[str]:
    """Return the overrides for a model, or for the deep model with that head. Raise UserError for an unknown name."""
    loader = GlobalHydra.instance().config_loader()  # which searches the user's own folder as well
    models, heads = (loader.get_group_options(group) for group in ("model", "model/head"))
    if name in models:
        return [f"model={name}"]
    if name in heads:
        return ["model=deep", f"model/head={name}"]
    suggestion = suggest(name, [*models, *heads], "choose one, or define it in model_overrides")
    raise UserError(f"no model or head is called {name!r}; {suggestion} Available: {', '.join([*models, *heads])}")
