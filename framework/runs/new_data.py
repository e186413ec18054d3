"""Configuration of new patients' data, read as the run read its own data unless set otherwise."""

from collections.abc import Mapping
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from framework.data.ingest.identity import identity
from framework.errors import UserError

PATH_KEYS = ("path", "leaderboard")  # keys of readers that hold paths
NEEDED_ROLES = {"input", "future"}


def complete_data_config(given: DictConfig, saved: DictConfig) -> DictConfig:
    """Return the complete configuration of the data: `given`, over how the run read its own data (`saved`).

    New patients need no columns of targets, groups, dates or outcomes; a column that the model reads must be present,
    though it may be empty. The default store is one for these files alone.
    """
    data = given.copy()
    if "reader" not in data or "_target_" not in data.reader:
        data = _with_saved_reader(given, saved)
    if data.store is None:
        reader = instantiate(data.reader, _convert_="all")
        data.store = f"cohorts/{data.name}-{identity(reader.settings, reader.files())[:12]}"
    return data


def _with_saved_reader(given: DictConfig, saved: DictConfig) -> DictConfig:
    old, new = (OmegaConf.to_container(config, resolve=True) for config in (saved, given))
    assert isinstance(old, dict)
    assert isinstance(new, dict)
    if old.get("path") is None:
        raise UserError(
            f"the run was fitted on {old['name']}, which was not read from a file; choose a reader for the new "
            "patients' data: data=table, nifti, bids or your own"
        )
    new_places = {place: new[key] for key, place in old.items() if key in new and isinstance(place, str)}
    reader = _relocate(old["reader"], new_places)
    for part in (reader, reader.get("visits")):
        for kind in ("variables", "static"):
            if isinstance(part, dict) and part.get(kind):
                part[kind] = {name: _relax_roles(spec or {}) for name, spec in part[kind].items()}
    config = OmegaConf.create(old | {"reader": reader})
    OmegaConf.set_struct(config, False)
    merged = OmegaConf.merge(config, new)
    assert isinstance(merged, DictConfig)
    return merged


def _relocate(node: Any, new_places: Mapping[str, str], is_path: bool = False) -> Any:
    """Return a reader's configuration with every path at or under an old place moved to the new one.

    Any other path becomes missing, to be given on the command line: a run does not choose which files are read.
    """
    if isinstance(node, dict):
        return {key: _relocate(value, new_places, key in PATH_KEYS) for key, value in node.items()}
    if is_path and isinstance(node, str):
        for old, new in sorted(new_places.items(), key=lambda pair: -len(pair[0])):
            if node == old or node.startswith(f"{old.rstrip('/')}/"):
                return f"{new}{node[len(old) :]}"
        return "???"
    return node


def _relax_roles(spec: Mapping[str, Any]) -> dict[str, Any]:
    roles = set(spec.get("roles") or ("input",))
    return dict(spec) | ({"sparse": True} if roles & NEEDED_ROLES and "target" not in roles else {"optional": True})
