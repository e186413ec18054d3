"""A run that somebody else may have made, read as data: nothing in it chooses code or places of this machine."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from framework.config.validate import check
from framework.data.cohort.names import require_file_name
from framework.errors import UserError

LARGEST = 2**22  # bytes of a run's configuration
READ = ("fitted", "intervals", "data")  # what is read of it: models and the map of columns
FAULTS = (
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


def configuration(run: Path, trust: tuple[str, ...]) -> DictConfig:
    """What the configuration of the run at `run` says of its models and its data, checked under the user's own `trust`.

    Raises UserError where it was edited into something that no run keeps, or names what it may not.
    """
    with readable(run):
        tree = _plain(run / "config.yaml")
        for name in tree.get("fitted") or {}:
            require_file_name(name, f"a model of the run at {run}")
        config = OmegaConf.create({key: tree[key] for key in READ if key in tree})
        if not isinstance(config, DictConfig) or not config.get("fitted") or "data" not in config:
            raise UserError(f"the run at {run} keeps no fitted model; name a finished run of experiments.forecast")
        check(config, trust)
        require_file_name(config.data.name, f"the cohort of the run at {run}")
    return config


def manifest_of(run: Path) -> dict[str, Any]:
    """The manifest of the run at `run`; raises UserError where it cannot be read."""
    with readable(run):
        found = json.loads((run / "manifest.json").read_text())
        if not isinstance(found, dict):
            raise UserError(f"the manifest of the run at {run} is no mapping; ask for the run again")
    return found


@contextmanager
def readable(run: Path) -> Iterator[None]:
    """Have whatever fails while a run's files are read be one line that says so."""
    try:
        yield
    except UserError:
        raise
    except FAULTS as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"the run at {run} cannot be read ({why}); it is damaged or was edited: ask for it again"
        ) from error


def _plain(file: Path) -> dict[str, Any]:
    """A configuration without aliases, which could unfold without end, and without what is resolved when it is read."""
    if file.stat().st_size > LARGEST:
        raise UserError(f"{file} has more than {LARGEST} bytes; no run keeps such a configuration: ask for it again")
    text = file.read_text()
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
        raise UserError(f"{file} has an alias (*name), which no run writes; ask for the run again")
    tree = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    if not isinstance(tree, dict):
        raise UserError(f"{file} is no mapping; ask for the run again")
    if found := _interpolation(tree):
        raise UserError(f"{file} says {found!r}, which no run keeps, for it is resolved when read; ask for it again")
    return {str(key): value for key, value in tree.items()}


def _interpolation(node: object) -> str | None:
    if isinstance(node, str):
        return node[:80] if "${" in node else None
    items = [*node, *node.values()] if isinstance(node, dict) else node if isinstance(node, list) else []
    return next((found for item in items if (found := _interpolation(item)) is not None), None)
