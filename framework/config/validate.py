"""Check of a composed config before any work: each `_target_` against its signature and the interface of its key."""

import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.resources import files

from omegaconf import DictConfig, OmegaConf

from framework.config.old_keys import replaced, require_current
from framework.config.targets import find_target, require_interface
from framework.configurable import group_of
from framework.data.cohort.names import require_file_name
from framework.errors import UserError, suggest

RESERVED_KEYS = {"_target_", "_partial_"}
TARGET_KEYS = {  # keys of targets in the experiments' configs, and the interface of each
    "model": "framework.forecast.base.Forecaster",
    "fitted": "framework.forecast.base.Forecaster",
    "intervals": "framework.forecast.base.Forecaster",
    "split": "framework.data.splits.split.Splitter",
    "origins": "framework.data.queries.origins.Origins",
    "training": "framework.train.loop.Training",
    "mesh": "framework.train.mesh.SingleDevice",
    "tracking": "framework.runs.tracking.Tracker",
    "hosts": "framework.train.mesh.Hosts",
    "data.reader": "framework.data.ingest.base.Reader",
    "data.events": "framework.data.queries.events.EventDefinition",
}
PRETRAIN_TARGET_KEYS = {  # of experiments.pretrain
    "model": "framework.train.reconstruction.Reconstruction",
    "training": "framework.train.reconstruction.Pretraining",
}
MAPPED_TARGET_KEYS = {"fitted", "data.events"}  # mappings from names to targets
PARTIAL_TARGET_KEYS = {"intervals"}  # targets that the command completes
PLAIN_KEYS = {  # other keys of the experiments' configs: type and smallest number allowed
    "experiment": (str, None),
    "runs": (str, None),
    "trust": (Sequence[str], None),
    "seed": (int, 0),
    "task": (str, None),
    "resamples": (int, 100),
    "repeats": (int, 1),
    "models": (Sequence[str], None),
    "model_overrides": (Mapping[str, Sequence[str]] | None, None),
    "repeats_per_model": (Mapping[str, int] | None, None),
    "run": (str | None, None),
    "sweep": (str | None, None),
    "report": (bool, None),
    "allow_leaks": (Sequence[str], None),
    "ahead": (Sequence[float], None),
    "submission": (str, None),
    "tadpole_submission": (str | None, None),
    "ground_truth": (str, None),
    "official_ties": (bool, None),
    "future": (Mapping[str, float | str] | None, None),
    "action": (str, None),
    "if_exists": (str, None),
    "hosts": (Mapping, None),
    "fitted": (Mapping, None),  # in the config that a run saves
    "data.name": (str, None),
    "data.store": (str | None, None),
    "data.targets": (Sequence[str], None),
    "data.hidden": (Sequence[str], None),
    "data.events": (Mapping | None, None),
    "data.resolution": (float, 0),
    "split.seed": (int, 0),
}
SIZE_KEYS = {"width", "features", "out_features"}  # of layers


def validate_config(config: DictConfig, trust: Sequence[str] = ()) -> None:
    """Raise UserError for a missing value, an unknown key, target or argument, or a value of the wrong type.

    `framework.config.targets` finds targets in this framework and in the packages under `trust`, which are those of the
    user's own command line: packages that the config itself trusts must be among them.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UserError(f"the config has no value for {missing[0]!r}; give it on the command line: {missing[0]}=...")
    tree = OmegaConf.to_container(config, resolve=True)
    assert isinstance(tree, dict)
    require_current(tree)
    roots = [*PLAIN_KEYS, *(folder.name for folder in files("conf").iterdir() if folder.is_dir())]
    for key in tree:
        if key not in roots:
            if (message := replaced(str(key))) is not None:
                raise UserError(message)
            raise UserError(f"no command reads {key!r}; {suggest(key, roots, 'leave it out')}")
    for key, (hint, smallest) in PLAIN_KEYS.items():
        group, _, name = key.rpartition(".")
        place = tree.get(group) if group else tree
        if not isinstance(place, dict) or name not in place:
            continue
        if not matches_hint(place[name], hint) or (key not in TARGET_KEYS and _has_target(place[name])):
            raise UserError(f"{key}: got {place[name]!r}; expected {_hint_name(hint)}")
        if smallest is not None and place[name] < smallest:
            raise UserError(f"{key}: got {place[name]}; expected {smallest} or more")
    require_file_name(tree.get("experiment", "experiment"), "experiment")
    if isinstance(tree.get("data"), dict) and "name" in tree["data"]:
        require_file_name(tree["data"]["name"], "data.name")
    if untrusted := [name for name in tree.get("trust", ()) if name not in trust]:
        raise UserError(
            f"trust: {untrusted[0]!r} is trusted by a file; only your own command line can: 'trust=[{untrusted[0]}]'"
        )
    _check_node(
        tree,
        "",
        None,
        TARGET_KEYS | (PRETRAIN_TARGET_KEYS if tree.get("experiment") == "pretrain" else {}),
        tuple(trust),
    )


def _check_node(node: object, path: str, hint: object, places: Mapping[str, str], trust: tuple[str, ...]) -> None:
    """Check every target in a part of the config; `hint` is the type that its parent expects."""
    if isinstance(node, list):
        for i, item in enumerate(node):
            _check_node(item, f"{path}[{i}]", _item_hint(hint, Sequence), places, trust)
    if not isinstance(node, dict):
        return
    if path in places:
        hint = _expected_interface(path, places[path]) if _has_target(node) else None
    inner: Mapping[str, object] = {}
    if "_target_" in node:
        inner = _check_call(node, path, hint, trust)
    elif group_of(_item_hint(hint, Mapping)) is not None:  # parts whose names become those of folders
        for key in node:
            require_file_name(key, f"a part of {path}")
    for key, value in node.items():
        below = f"{path}.{key}" if path else str(key)
        _check_node(value, below, inner.get(key) if "_target_" in node else _item_hint(hint, Mapping), places, trust)


def _has_target(node: object) -> bool:
    if isinstance(node, list):
        return any(map(_has_target, node))
    return isinstance(node, dict) and ("_target_" in node or any(map(_has_target, node.values())))


def _expected_interface(path: str, name: str) -> object:
    """Return the type expected at one of TARGET_KEYS; its module is loaded only now."""
    module, _, attribute = name.rpartition(".")
    interface = getattr(import_module(module), attribute)
    if path in MAPPED_TARGET_KEYS:
        return Mapping[str, interface]
    return Callable[..., interface] if path in PARTIAL_TARGET_KEYS else interface


def _item_hint(hint: object, container: type) -> object:
    """Return the type expected of the items of a list or the values of a mapping; None where there is none."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return next((item_hint for option in args if (item_hint := _item_hint(option, container)) is not None), None)
    return args[-1] if inspect.isclass(origin) and issubclass(origin, container) and args else None


def _check_call(node: Mapping, path: str, hint: object, trust: tuple[str, ...]) -> Mapping[str, object]:
    """Check one target with its arguments; return the type expected of each."""
    name, partial = node["_target_"], node.get("_partial_", False)
    target = find_target(name, path, trust)
    if not isinstance(partial, bool):
        raise UserError(f"{path}._partial_: got {partial!r}; expected bool")
    require_interface(target, partial, hint, name, path)
    called = target.__init__ if inspect.isclass(target) else target
    hints = _type_hints(called)
    parameters = {
        name: p
        for name, p in inspect.signature(called).parameters.items()
        if name != "self" and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    for key, value in node.items():
        if key in RESERVED_KEYS:
            continue
        if key not in parameters:
            if (message := replaced(f"{path}.{key}", parameters)) is not None:
                raise UserError(message)
            suggestion = suggest(key, parameters, f"it takes {list(parameters)}")
            raise UserError(f"{path}.{key}: {node['_target_']} takes no {key!r}; {suggestion}")
        if key in hints and not matches_hint(value, hints[key]):
            raise UserError(f"{path}.{key}: got {value!r}; expected {_hint_name(hints[key])}")
        if key in SIZE_KEYS and isinstance(value, (int, float)) and value < 1:
            raise UserError(f"{path}.{key}: got {value}; expected 1 or more")
    absent = [name for name, p in parameters.items() if p.default is p.empty and name not in node]
    if absent and not partial:
        raise UserError(f"{path}: {node['_target_']} needs {absent[0]!r}; give {path}.{absent[0]}=...")
    return hints


def _type_hints(called: Callable) -> dict[str, object]:
    try:
        return typing.get_type_hints(called)
    except NameError:  # annotations may use names that only type checkers see: then any value is accepted
        return {}


def matches_hint(value: object, hint: object) -> bool:
    """Return whether a plain config value is of the type `hint`; a type that YAML cannot express accepts any value."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(value, dict) and "_target_" in value:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(matches_hint(value, option) for option in args)
    if hint is type(None):
        return value is None
    if isinstance(hint, type) and hint in (int, float, str, bool):
        return _matches_scalar(value, hint)
    kind = origin or hint
    if inspect.isclass(kind) and issubclass(kind, Mapping):
        return isinstance(value, dict) and all(matches_hint(item, args[1]) for item in value.values() if args)
    if inspect.isclass(kind) and issubclass(kind, Sequence):
        inner = args[0] if args else object
        return isinstance(value, list) and all(matches_hint(item, inner) for item in value)
    return True


def _matches_scalar(value: object, hint: type) -> bool:
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _hint_name(hint: object) -> str:
    return hint.__name__ if inspect.isclass(hint) else re.sub(r"\b(typing|collections\.abc)\.", "", str(hint))
