"""Checks a composed config before any work: each `_target_` against the signature it names."""

import difflib
import inspect
import re
import types
import typing
from collections.abc import Mapping, Sequence
from importlib import import_module

from omegaconf import DictConfig, OmegaConf

from framework.errors import UserError

SPECIAL = {"_target_", "_partial_", "_convert_", "_recursive_"}
TRUSTED = ("framework", "optax")
SETTINGS = {  # what stands at the root of the experiments' configs, and the smallest number allowed
    "experiment": (str, None),
    "runs": (str, None),
    "trust": (Sequence[str], None),
    "seed": (int, 0),
    "ask": (str, None),
    "resamples": (int, 100),
    "repeats": (int, 1),
    "models": (Sequence[str], None),
    "settings": (Mapping, None),
    "run": (str, None),
    "ahead": (Sequence[float], None),
    "known": (Mapping, None),
}


def check(config: DictConfig) -> None:
    """Raise UserError for a missing value, an unknown target or argument, or a value of the wrong type.

    Only targets of this framework, of optax and of the packages the config lists under `trust` are imported,
    so that a config received from elsewhere cannot name just any function.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UserError(f"the config has no value for {missing[0]!r}; give it on the command line: {missing[0]}=...")
    tree = OmegaConf.to_container(config, resolve=True)
    assert isinstance(tree, dict)
    for key, (hint, smallest) in SETTINGS.items():
        if key in tree and not fits(tree[key], hint):
            raise UserError(f"{key}: got {tree[key]!r}; expected {_name(hint)}")
        if key in tree and smallest is not None and tree[key] < smallest:
            raise UserError(f"{key}: got {tree[key]}; expected {smallest} or more")
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
    hints = typing.get_type_hints(called)
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
    required = [
        name
        for name, p in parameters.items()
        if p.default is p.empty and p.kind is not p.VAR_KEYWORD and p.kind is not p.VAR_POSITIONAL
    ]
    absent = [name for name in required if name not in node]
    if absent and not node.get("_partial_"):
        raise UserError(f"{path}: {node['_target_']} needs {absent[0]!r}; give {path}.{absent[0]}=...")


def _resolve(name: str, path: str, trusted: tuple[str, ...]):
    if name.split(".")[0] not in trusted:
        raise UserError(f"{path}: the target {name!r} is outside {list(trusted)}; to allow it add trust=[its package]")
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{path}: no {name!r} to be found ({error}); check the spelling of _target_") from None


def fits(value: object, hint: object) -> bool:
    """Whether a plain config value can stand where `hint` is asked; what YAML cannot spell always fits."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(value, dict) and "_target_" in value:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in args)
    if hint is type(None):
        return value is None
    if hint in (int, float, str, bool):
        return _fits_scalar(value, hint)
    if inspect.isclass(origin or hint) and issubclass(origin or hint, Mapping):
        return isinstance(value, dict)
    if inspect.isclass(origin or hint) and issubclass(origin or hint, Sequence):
        inner = args[0] if args else object
        return isinstance(value, list) and all(fits(item, inner) for item in value)
    return True


def _fits_scalar(value: object, hint: object) -> bool:
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)  # type: ignore[arg-type]


def _name(hint: object) -> str:
    return hint.__name__ if inspect.isclass(hint) else re.sub(r"\b(typing|collections\.abc)\.", "", str(hint))
