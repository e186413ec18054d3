"""Configuration read strictly: a misspelt key or a wrong type is named, with the key that was probably meant."""

from collections.abc import Mapping, Sequence
from inspect import signature
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from framework.errors import UserError, suggest

T = TypeVar("T")


def known(name: str, names: Sequence[str], what: str) -> str:
    """`name`, if it is one of `names`; else raises UserError with the nearest of them."""
    if name in names:
        return name
    raise UserError(f"{what} {name!r} is unknown; {suggest(name, names, '')} expected one of {list(names)}")


def build(kind: type[T], node: Any, where: str, **given: Any) -> T:
    """The dataclass `kind` from a mapping of YAML; raises UserError for a key it lacks or a value of a wrong type."""
    if not isinstance(node, Mapping):
        raise UserError(f"{where} is {node!r}; expected keys and values, some of {_keys(kind, given)}")
    hints, keys = get_type_hints(kind), _keys(kind, given)
    arguments = dict(given)
    for key, value in node.items():
        hint = hints[known(key, keys, f"{where}: key")]
        try:
            arguments[key] = _cast(value, hint)
        except TypeError:
            raise UserError(f"{where}.{key} is {value!r}; expected {_words(hint)}") from None
    required = [name for name, parameter in signature(kind).parameters.items() if parameter.default is parameter.empty]
    absent = [name for name in required if name not in arguments]
    if absent:
        raise UserError(f"{where} lacks {absent[0]!r}; expected {_words(hints[absent[0]])}: add it")
    return kind(**arguments)


def _keys(kind: type, given: Mapping) -> list[str]:
    return [name for name in signature(kind).parameters if name not in given]


def _cast(value: Any, hint: Any) -> Any:
    """`value` as `hint` says: lists as tuples, whole numbers as floats. Raises TypeError where it cannot be."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is UnionType:
        fitting = [option for option in inner if _fits(value, option)]
        return _cast(value, (fitting or inner)[0])
    if origin is tuple and isinstance(value, Sequence) and not isinstance(value, str):
        hints = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        if len(hints) == len(value):
            return tuple(map(_cast, value, hints))
    if origin is Mapping and isinstance(value, Mapping):
        return {str(key): _cast(item, inner[1]) for key, item in value.items()}
    if hint is float and type(value) is int:
        return float(value)
    if origin is not None or type(value) is not hint:
        raise TypeError
    return value


def _fits(value: Any, hint: Any) -> bool:
    try:
        _cast(value, hint)
    except TypeError:
        return False
    return True


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
