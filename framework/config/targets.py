"""What a configuration may name as a `_target_`: looked up among files, and only then imported.

A target is defined in the module that it names, and is a class of an interface that `framework.configurable` marks, or
a factory that it marks. Its group must be what the parameter that it is for expects.
"""

import ast
import collections.abc
import inspect
import types
import typing
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser

import framework
from framework.configurable import configurable, group_of
from framework.errors import UserError

OWN = "framework"
Kind = tuple[type, bool]  # an interface, and whether a partial of it is expected


def granted(arguments: Sequence[str]) -> tuple[str, ...]:
    """The packages under `trust` on a command line, the only place where it counts.

    Raises UserError where they are no list of names.
    """
    words = get_args_parser().parse_known_args(list(arguments))[0].overrides
    own = [word for word in words if word.lstrip("+~").partition("=")[0] == "trust"]
    found: object = []
    for one in OverridesParser.create().parse_overrides(own):
        found = [] if one.is_delete() else one.value()
    if not isinstance(found, list) or not all(isinstance(name, str) and name.isidentifier() for name in found):
        raise UserError(f"trust: got {own[-1]!r}; expected packages by their names: 'trust=[mypackage]'")
    return tuple(found)


def target_of(name: object, place: str, trust: Sequence[str]) -> Callable:
    """The class or function of a `_target_` at `place`, from this framework or a package under `trust`.

    Raises UserError where there is none, or it may not be named; what is outside is not imported.
    """
    module, _, attribute = str(name).rpartition(".")
    package = module.partition(".")[0]
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")) or not module:
        raise UserError(f"{place}: the target {name!r} is no dotted name; expected one such as {OWN}.nn.heads.gru.GRU")
    if package not in (OWN, *trust):
        allow = [*trust, package]
        raise UserError(
            f"{place}: the target {name!r} is outside {[OWN, *trust]}; if you trust that package, say so on your own "
            f"command line: 'trust=[{','.join(allow)}]'"
        )
    file = module_file(module)
    if file is None:
        raise UserError(
            f"{place}: no {name!r} to be found (no file of a module {module}); check the spelling of _target_"
        )
    _require_defined(file, attribute, name, place)
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{place}: no {name!r} to be found ({error}); check the spelling of _target_") from None
    if not callable(found) or group_of(found) is None or getattr(found, "__module__", None) != module:
        raise UserError(f"{place}: {_unmarked(name)}")
    return found


def require_kind(target: Callable, partial: bool, hint: object, name: str, place: str) -> None:
    """Raise UserError unless what a target makes, or a `partial` of it, is what the annotation `hint` expects."""
    expected = _kinds(hint)
    if not expected:
        raise UserError(f"{place}: no target is expected here, got {name!r}; leave _target_ out")
    made = target
    if not inspect.isclass(target):
        made = typing.get_type_hints(target).get("return")
    right = [kind for kind, _ in expected if inspect.isclass(made) and issubclass(made, kind)]
    if not right:
        what = " or ".join(sorted({kind.__name__ for kind, _ in expected}))
        raise UserError(f"{place}: {name} is of the group {group_of(target)!r}; expected a {what}")
    if not any(kind in right and wants == partial for kind, wants in expected):
        how = "made whole; leave _partial_ out" if partial else "completed later; add _partial_: true"
        raise UserError(f"{place}: {name} is to be {how}")
    if inspect.isabstract(target):
        raise UserError(f"{place}: {name} is an interface; name a class that fulfils it")


def module_file(module: str) -> Path | None:
    """The source file of a module by its dotted name, found without importing anything; None where there is none."""
    package, *inner = module.split(".")
    if package == OWN:
        roots = [Path(folder) for folder in framework.__path__]
    else:
        try:
            spec = find_spec(package)  # of a package at the top, which imports nothing
        except (ImportError, ValueError):
            return None
        if spec is None:
            return None
        if not spec.submodule_search_locations:
            alone = Path(spec.origin or "")
            return alone if not inner and alone.suffix == ".py" else None
        roots = [Path(folder) for folder in spec.submodule_search_locations]
    for root in roots:
        place = root.joinpath(*inner)
        for file in (place / "__init__.py", place.with_suffix(".py") if inner else place / "__init__.py"):
            if file.is_file():
                return file
    return None


def _kinds(hint: object) -> list[Kind]:
    """The interfaces that an annotation names."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return [kind for option in args for kind in _kinds(option)]
    if origin is collections.abc.Callable:
        return [(kind, True) for kind, partial in _kinds(args[-1]) if not partial]
    return [(hint, False)] if inspect.isclass(hint) and group_of(hint) is not None else []


def _require_defined(file: Path, attribute: str, name: str, place: str) -> None:
    """Raise UserError unless the file has a class, or a function that is marked, of that name at its top level."""
    try:
        body = ast.parse(file.read_bytes()).body
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{place}: {file} is no Python ({error}); mend it or name another _target_") from None
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == attribute:
            if isinstance(node, ast.FunctionDef) and not any(map(_marks, node.decorator_list)):
                raise UserError(f"{place}: {_unmarked(name)}")
            return
        if isinstance(node, (ast.ImportFrom, ast.Import)):
            for alias in node.names:
                if (alias.asname or alias.name) == attribute:
                    source = getattr(node, "module", None)
                    own = "" if source is None or source.startswith(".") else f", probably {source}.{alias.name}"
                    raise UserError(f"{place}: {name!r} is only imported there; name the module that defines it{own}")
    raise UserError(f"{place}: no {name!r} to be found; check the spelling of _target_")


def _marks(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return getattr(called, "id", getattr(called, "attr", None)) == configurable.__name__


def _unmarked(name: str) -> str:
    return (
        f"{name!r} is nothing that a configuration may name; expected a class of one of the framework's interfaces, "
        "or one marked with framework.configurable.configurable"
    )
