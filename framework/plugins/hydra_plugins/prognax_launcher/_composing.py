"""The configs of a sweep's jobs, composed once for all that differ in single values."""

import copy
from collections.abc import Sequence
from typing import Any

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

ABSENT = object()
SCALARS = (bool, int, float, str, type(None))


class Composing:
    """A config loader that composes a sweep's job anew only where it is made of other parts than one before.

    Hydra composes every job twice, and for short trainings that took most of a sweep's time. Where a job sets
    the same keys as one before and differs in single values of the config alone, a copy of that one gets them, as
    Hydra itself would set them last of all. Everything else is handed on.
    """

    def __init__(self, loader: ConfigLoader):
        self._loader = loader
        self._parser = OverridesParser.create()
        self._composed: dict[tuple[str, ...], tuple[list[Override], DictConfig]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        """What Hydra's own loader gives for these overrides."""
        told = self._parser.parse_overrides(list(sweep_overrides))
        keys = tuple(one.get_key_element() for one in told)
        usual, base = self._composed.get(keys, ([], None))
        pairs = enumerate(zip(told, usual, strict=False))  # `usual` is empty at first
        others = [place for place, (one, old) in pairs if one.input_line != old.input_line]
        if base is None or not all(_single(base, told[place]) for place in others):
            made = self._loader.load_sweep_config(master_config, list(sweep_overrides))
            if len(set(keys)) == len(keys):
                self._composed.setdefault(keys, (told, copy.deepcopy(made)))
            return made
        config = copy.deepcopy(base)
        for place in others:
            OmegaConf.update(config, told[place].key_or_group, told[place].value(), merge=True)
            config.hydra.overrides.task[place] = told[place].input_line
        how = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = get_overrides_dirname(
            overrides=told, kv_sep=how.kv_sep, item_sep=how.item_sep, exclude_keys=how.exclude_keys
        )
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config


def _single(base: DictConfig, override: Override) -> bool:
    """Whether it sets one value of the config, which is there, to another, and chooses no part."""
    key = override.key_or_group
    plain = override.package is None and not (override.is_add() or override.is_delete() or override.is_force_add())
    if not plain or override.is_sweep_override() or key.startswith("hydra"):
        return False
    return all(isinstance(x, SCALARS) for x in (OmegaConf.select(base, key, default=ABSENT), override.value()))
