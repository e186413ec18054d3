"""Configuration read strictly: a misspelt key or a wrong type is named, with the key that was probably meant."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from difflib import get_close_matches
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from framework.errors import UserError

T = TypeVar("T")


def known(name: str, names: Sequence[str], what: str) -> str:
    """`name`, if it is one of `names`; else raises UserError with the nearest of them."""
    if name in names:
        return name
    near = get_close_matches(str(name), [str(n) for n in names], n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UserError(f"{what} {name!r} is unknown; {hint}expected one of {list(names)}")


def build(kind: type[T], node: Any, where: str, **given: Any) -> T:
    """The dataclass `kind` from a mapping of YAML, lists becoming tuples; raises UserError for a key or type it lacks."""
    if not isinstance(node, Mapping):
        raise UserError(f"{where} is {node!r}; expected keys and values, some of {_keys(kind, given)}")
    hints, keys = get_type_hints(kind), _keys(kind, given)
    arguments = dict(given)
    for key, value in node.items():
        hint = hints[known(key, keys, f"{where}: key")]
        value = _plain(value)
        if not _fits(value, hint):
            raise UserError(f"{where}.{key} is {value!r}; expected {_words(hint)}")
        arguments[key] = value
    absent = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING and f.name not in arguments]
    if absent:
        raise UserError(f"{where} lacks {absent[0]!r}; expected {_words(hints[absent[0]])}: add it")
    return kind(**arguments)


def _keys(kind: type, given: Mapping) -> list[str]:
    return [field.name for field in fields(kind) if field.name not in given]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(_plain(item) for item in value)
    return value


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return any(_fits(value, option) for option in inner)
    if origin is tuple and len(inner) == 2 and inner[1] is Ellipsis:
        return isinstance(value, tuple) and all(_fits(item, inner[0]) for item in value)
    if origin is tuple:
        return isinstance(value, tuple) and len(value) == len(inner) and all(map(_fits, value, inner))
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_fits(item, inner[1]) for item in value.values())
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _words(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return " or ".join(_words(option) for option in inner)
    if origin is tuple and inner[1:] == (Ellipsis,):
        return f"a list of {_words(inner[0])}s"
    if origin is tuple:
        return f"a list of {len(inner)}: [{', '.join(_words(item) for item in inner)}]"
    if origin is Mapping:
        return "keys and values"
    return {str: "text", float: "number", int: "whole number", bool: "true or false", type(None): "null"}[hint]
