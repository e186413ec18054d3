"""Checks a composed config before any work: each `_target_` against the signature it names."""

import difflib
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.resources import files

from omegaconf import DictConfig, OmegaConf

from framework.errors import UserError

SPECIAL = {"_target_", "_partial_", "_convert_", "_recursive_"}
TRUSTED = ("framework", "optax")
SETTINGS = {  # what the experiments' configs hold beside targets, and the smallest number allowed
    "experiment": (str, None),
    "runs": (str, None),
    "trust": (Sequence[str], None),
    "seed": (int, 0),
    "ask": (str, None),
    "resamples": (int, 100),
    "repeats": (int, 1),
    "models": (Sequence[str], None),
    "settings": (Mapping[str, Sequence[str]] | None, None),
    "fewer": (Mapping[str, int] | None, None),
    "run": (str | None, None),
    "sweep": (str | None, None),
    "report": (bool, None),
    "accept": (Sequence[str], None),
    "ahead": (Sequence[float], None),
    "submission": (str | None, None),
    "truth": (str, None),
    "official_ties": (bool, None),
    "known": (Mapping[str, float | str] | None, None),
    "action": (str, None),
    "existing": (str, None),
    "hosts": (Mapping, None),
    "fitted": (Mapping, None),  # in the config that a run keeps
    "data.name": (str, None),
    "data.store": (str | None, None),
    "data.targets": (Sequence[str], None),
    "data.hidden": (Sequence[str], None),
    "data.events": (Mapping | None, None),
    "data.resolution": (float, 0),
    "split.seed": (int, 0),
}
SIZES = {"width", "features", "out_features"}  # of layers


def check(config: DictConfig) -> None:
    """Raise UserError for a missing value, an unknown key, target or argument, or a value of the wrong type.

    Only what this framework, optax and the packages under `trust` define may be a target, so that a config
    received from elsewhere cannot name just any function. Whoever reads such a config sets its `trust` anew.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UserError(f"the config has no value for {missing[0]!r}; give it on the command line: {missing[0]}=...")
    tree = OmegaConf.to_container(config, resolve=True)
    assert isinstance(tree, dict)
    roots = [*SETTINGS, *(folder.name for folder in files("conf").iterdir() if folder.is_dir())]
    for key in tree:
        if key not in roots:
            near = difflib.get_close_matches(str(key), roots, n=1)
            raise UserError(f"no command reads {key!r}; {f'did you mean {near[0]!r}?' if near else 'leave it out'}")
    for key, (hint, smallest) in SETTINGS.items():
        group, _, name = key.rpartition(".")
        place = tree.get(group) if group else tree
        if not isinstance(place, dict) or name not in place:
            continue
        if not fits(place[name], hint):
            raise UserError(f"{key}: got {place[name]!r}; expected {_name(hint)}")
        if smallest is not None and place[name] < smallest:
            raise UserError(f"{key}: got {place[name]}; expected {smallest} or more")
    _walk(tree, "", (*TRUSTED, *tree.get("trust", ())))


def _walk(node: object, path: str, trusted: tuple[str, ...]) -> None:
    if isinstance(node, list):
        for i, item in enumerate(node):
            _walk(item, f"{path}[{i}]", trusted)
    if not isinstance(node, dict):
        return
    if "_target_" in node:
        _check_call(node, path, trusted)
    for key, value in node.items():
        _walk(value, f"{path}.{key}" if path else str(key), trusted)


def _check_call(node: Mapping, path: str, trusted: tuple[str, ...]) -> None:
    target = _resolve(node["_target_"], path, trusted)
    called = target.__init__ if inspect.isclass(target) else target
    hints = _hints(called)
    parameters = {name: p for name, p in inspect.signature(called).parameters.items() if name != "self"}
    for key, value in node.items():
        if key in SPECIAL:
            continue
        if key not in parameters:
            near = difflib.get_close_matches(str(key), parameters, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {list(parameters)}"
            raise UserError(f"{path}.{key}: {node['_target_']} takes no {key!r}; {hint}")
        if key in hints and not fits(value, hints[key]):
            raise UserError(f"{path}.{key}: got {value!r}; expected {_name(hints[key])}")
        if key in SIZES and value < 1:
            raise UserError(f"{path}.{key}: got {value}; expected 1 or more")
    required = [
        name
        for name, p in parameters.items()
        if p.default is p.empty and p.kind is not p.VAR_KEYWORD and p.kind is not p.VAR_POSITIONAL
    ]
    absent = [name for name in required if name not in node]
    if absent and not node.get("_partial_"):
        raise UserError(f"{path}: {node['_target_']} needs {absent[0]!r}; give {path}.{absent[0]}=...")


def _hints(called: Callable) -> dict[str, object]:
    try:
        return typing.get_type_hints(called)
    except NameError:  # others' annotations may name what is there for type checkers alone: then any value fits
        return {}


def _resolve(name: object, path: str, trusted: tuple[str, ...]) -> Callable:
    module, _, attribute = str(name).rpartition(".")
    if module.split(".")[0] not in trusted:
        raise UserError(f"{path}: the target {name!r} is outside {list(trusted)}; to allow it add trust=[its package]")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{path}: no {name!r} to be found ({error}); check the spelling of _target_") from None
    # what a trusted module merely imports is not its own
    if not callable(found) or str(getattr(found, "__module__", "")).split(".")[0] not in trusted:
        raise UserError(f"{path}: {name!r} is no class or function of {list(trusted)}; check the spelling of _target_")
    return found


def fits(value: object, hint: object) -> bool:
    """Whether a plain config value can stand where `hint` is asked; what YAML cannot spell always fits."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(value, dict) and "_target_" in value:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in args)
    if hint is type(None):
        return value is None
    if isinstance(hint, type) and hint in (int, float, str, bool):
        return _fits_scalar(value, hint)
    kind = origin or hint
    if inspect.isclass(kind) and issubclass(kind, Mapping):
        return isinstance(value, dict) and all(fits(item, args[1]) for item in value.values() if args)
    if inspect.isclass(kind) and issubclass(kind, Sequence):
        inner = args[0] if args else object
        return isinstance(value, list) and all(fits(item, inner) for item in value)
    return True


def _fits_scalar(value: object, hint: type) -> bool:
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _name(hint: object) -> str:
    return hint.__name__ if inspect.isclass(hint) else re.sub(r"\b(typing|collections\.abc)\.", "", str(hint))
