"""New patients' data, read as the run that is to forecast them read its own, unless told otherwise."""

from collections.abc import Mapping
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from framework.data.ingest.identity import identity
from framework.errors import UserError

PLACES = ("path", "leaderboard")  # keys of readers that hold paths
NEEDED = {"input", "known_ahead"}


def data_of(given: DictConfig, saved: DictConfig) -> DictConfig:
    """The whole configuration of the data: `given`, over what the run's own (`saved`) says of how they are read.

    New patients need no column of what is forecast, of groups, dates and hindsight; of what the model reads the column
    must be there, though it may be empty. A store that is not named is one of these files' own.
    """
    data = given.copy()
    if "reader" not in data or "_target_" not in data.reader:
        data = _as_saved(given, saved)
    if data.store is None:
        reader = instantiate(data.reader, _convert_="all")
        data.store = f"cohorts/{data.name}-{identity(reader.settings, reader.files())[:12]}"
    return data


def _as_saved(given: DictConfig, saved: DictConfig) -> DictConfig:
    before, now = (OmegaConf.to_container(one, resolve=True) for one in (saved, given))
    assert isinstance(before, dict)
    assert isinstance(now, dict)
    if before.get("path") is None:
        raise UserError(
            f"the run was fitted on {before['name']}, which was read from no file; say how the new patients' data are "
            "read: data=table, nifti, bids or your own"
        )
    moved = {old: now[key] for key, old in before.items() if key in now and isinstance(old, str)}
    reader = _moved(before["reader"], moved)
    for part in (reader, reader.get("visits")):
        for kind in ("variables", "static"):
            if isinstance(part, dict) and part.get(kind):
                part[kind] = {name: _eased(spec or {}) for name, spec in part[kind].items()}
    made = OmegaConf.create(before | {"reader": reader})
    OmegaConf.set_struct(made, False)
    merged = OmegaConf.merge(made, now)
    assert isinstance(merged, DictConfig)
    return merged


def _moved(node: Any, moved: Mapping[str, str], place: bool = False) -> Any:
    """A reader's configuration with every path that was at or under an old place at or under the new one.

    Any other is left out, to be given on the command line: which files are read is not for a run to say.
    """
    if isinstance(node, dict):
        return {key: _moved(value, moved, key in PLACES) for key, value in node.items()}
    if place and isinstance(node, str):
        for old, new in sorted(moved.items(), key=lambda pair: -len(pair[0])):
            if node == old or node.startswith(f"{old.rstrip('/')}/"):
                return f"{new}{node[len(old) :]}"
        return "???"
    return node


def _eased(spec: Mapping[str, Any]) -> dict[str, Any]:
    roles = set(spec.get("roles") or ("input",))
    return dict(spec) | ({"sparse": True} if roles & NEEDED and "target" not in roles else {"optional": True})
