"""Reading a run of unknown origin as data: nothing in it chooses code or places of this machine."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from framework.config.validate import validate_config
from framework.data.cohort.names import require_file_name
from framework.errors import UserError

MAX_BYTES = 2**22  # bytes of a run's configuration
READ_KEYS = ("fitted", "intervals", "data")  # models and the map of columns
READ_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    RecursionError,
    yaml.YAMLError,
    OmegaConfBaseException,
)


def read_config(run: Path, trust: tuple[str, ...]) -> DictConfig:
    """Read the models and the data of a run's configuration, checked under the user's own `trust`.

    Raise UserError where the configuration was edited into one that no run saves, or names a forbidden target.
    """
    with explain_damage(run):
        tree = _read_plain_yaml(run / "config.yaml")
        for name in tree.get("fitted") or {}:
            require_file_name(name, f"a model of the run at {run}")
        config = OmegaConf.create({key: tree[key] for key in READ_KEYS if key in tree})
        if not isinstance(config, DictConfig) or not config.get("fitted") or "data" not in config:
            raise UserError(f"the run at {run} has no fitted model; name a finished run of experiments.forecast")
        validate_config(config, trust)
        require_file_name(config.data.name, f"the cohort of the run at {run}")
    return config


def read_manifest(run: Path) -> dict[str, Any]:
    """Read the manifest of a run; raise UserError where it cannot be read."""
    with explain_damage(run):
        manifest = json.loads((run / "manifest.json").read_text())
        if not isinstance(manifest, dict):
            raise UserError(f"the manifest of the run at {run} is not a mapping; request the run again")
    return manifest


@contextmanager
def explain_damage(run: Path) -> Iterator[None]:
    """Raise every failure to read a run's files as a UserError of one line."""
    try:
        yield
    except UserError:
        raise
    except READ_ERRORS as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"the run at {run} cannot be read ({reason}); it is damaged or was edited: request it again"
        ) from error


def _read_plain_yaml(file: Path) -> dict[str, Any]:
    """Read a configuration that has neither aliases, which could expand without end, nor interpolations."""
    if file.stat().st_size > MAX_BYTES:
        raise UserError(f"{file} has more than {MAX_BYTES} bytes, which no run writes; request the run again")
    text = file.read_text()
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
        raise UserError(f"{file} has an alias (*name), which no run writes; request the run again")
    tree = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    if not isinstance(tree, dict):
        raise UserError(f"{file} is not a mapping; request the run again")
    if interpolation := _find_interpolation(tree):
        raise UserError(f"{file} has the interpolation {interpolation!r}, which no run writes; request the run again")
    return {str(key): value for key, value in tree.items()}


def _find_interpolation(node: object) -> str | None:
    if isinstance(node, str):
        return node[:80] if "${" in node else None
    items = [*node, *node.values()] if isinstance(node, dict) else node if isinstance(node, list) else []
    return next((text for item in items if (text := _find_interpolation(item)) is not None), None)
