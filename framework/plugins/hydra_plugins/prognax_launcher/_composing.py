"""Configs of a sweep's jobs, composed once for all jobs that differ in single values."""

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


class CachingConfigLoader:
    """Config loader that composes a sweep's job only where its parts differ from those of an earlier job.

    Hydra composes every job twice, which took most of the time of a sweep of short trainings. Where a job sets the same
    keys as an earlier job and differs only in single values of the config, these are set in a copy of the earlier
    config, as Hydra itself would set them last. Everything else is passed to Hydra's loader.
    """

    def __init__(self, loader: ConfigLoader):
        self._loader = loader
        self._parser = OverridesParser.create()
        self._composed: dict[tuple[str, ...], tuple[list[Override], DictConfig]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        """Return the config that Hydra's own loader returns for these overrides."""
        overrides = self._parser.parse_overrides(list(sweep_overrides))
        keys = tuple(override.get_key_element() for override in overrides)
        earlier, base = self._composed.get(keys, ([], None))
        pairs = enumerate(zip(overrides, earlier, strict=False))  # `earlier` is empty at first
        changed = [place for place, (new, old) in pairs if new.input_line != old.input_line]
        if base is None or not all(_sets_one_value(base, overrides[place]) for place in changed):
            composed = self._loader.load_sweep_config(master_config, list(sweep_overrides))
            if len(set(keys)) == len(keys):
                self._composed.setdefault(keys, (overrides, copy.deepcopy(composed)))
            return composed
        config = copy.deepcopy(base)
        for place in changed:
            OmegaConf.update(config, overrides[place].key_or_group, overrides[place].value(), merge=True)
            config.hydra.overrides.task[place] = overrides[place].input_line
        dirname = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = get_overrides_dirname(
            overrides=overrides, kv_sep=dirname.kv_sep, item_sep=dirname.item_sep, exclude_keys=dirname.exclude_keys
        )
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config


def _sets_one_value(base: DictConfig, override: Override) -> bool:
    """Return whether an override sets one existing value of the config to another, and chooses no part."""
    key = override.key_or_group
    plain = override.package is None and not (override.is_add() or override.is_delete() or override.is_force_add())
    if not plain or override.is_sweep_override() or key.startswith("hydra"):
        return False
    return all(isinstance(x, SCALARS) for x in (OmegaConf.select(base, key, default=ABSENT), override.value()))
