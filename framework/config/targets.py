"""Targets that a configuration may name as a `_target_`: located among files, and only then imported.

A target is defined in the module that it names, and is a class of an interface that `framework.configurable` marks, or
a factory that it marks. Its group must be the one that the parameter expects.
"""

import ast
import collections.abc
import inspect
import types
import typing
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser

import framework
from framework.configurable import configurable, group_of
from framework.errors import UserError

PACKAGE = "framework"
ExpectedInterface = tuple[type, bool]  # an interface, and whether a partial of it is expected


def trusted_packages(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the packages under `trust` on a command line, the only place where it counts.

    Raise UserError where they are not a list of names.
    """
    words = get_args_parser().parse_known_args(list(arguments))[0].overrides
    settings = [word for word in words if word.lstrip("+~").partition("=")[0] == "trust"]
    packages: object = []
    for override in OverridesParser.create().parse_overrides(settings):
        packages = [] if override.is_delete() else override.value()
    if not isinstance(packages, list) or not all(isinstance(name, str) and name.isidentifier() for name in packages):
        raise UserError(f"trust: got {settings[-1]!r}; expected packages by their names: 'trust=[mypackage]'")
    return tuple(packages)


def find_target(name: object, place: str, trust: Sequence[str]) -> Callable:
    """Return the class or function of a `_target_` at `place`, from this framework or a package under `trust`.

    Raise UserError where there is none, or it may not be named; other packages are not imported.
    """
    module, _, attribute = str(name).rpartition(".")
    package = module.partition(".")[0]
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")) or not module:
        raise UserError(
            f"{place}: the target {name!r} is not a dotted name; expected one such as {PACKAGE}.nn.heads.gru.GRU"
        )
    if package not in (PACKAGE, *trust):
        allow = [*trust, package]
        raise UserError(
            f"{place}: the target {name!r} is outside {[PACKAGE, *trust]}; to trust that package, add it on your own "
            f"command line: 'trust=[{','.join(allow)}]'"
        )
    file = find_module_file(module)
    if file is None:
        raise UserError(
            f"{place}: {name!r} was not found (no file of a module {module}); check the spelling of _target_"
        )
    _require_defined(file, attribute, name, place)
    try:
        target = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{place}: {name!r} was not found ({error}); check the spelling of _target_") from None
    if not callable(target) or group_of(target) is None or getattr(target, "__module__", None) != module:
        raise UserError(f"{place}: {_unmarked_message(name)}")
    return target


def require_interface(target: Callable, partial: bool, hint: object, name: str, place: str) -> None:
    """Raise UserError unless the object of a target, or a `partial` of it, is of the interface that `hint` names."""
    expected = _expected_interfaces(hint)
    if not expected:
        raise UserError(f"{place}: no target is expected here, got {name!r}; leave _target_ out")
    produced = target if inspect.isclass(target) else typing.get_type_hints(target).get("return")
    matching = [interface for interface, _ in expected if inspect.isclass(produced) and issubclass(produced, interface)]
    if not matching:
        names = " or ".join(sorted({interface.__name__ for interface, _ in expected}))
        raise UserError(f"{place}: {name} is of the group {group_of(target)!r}; expected a {names}")
    if not any(interface in matching and completed_later == partial for interface, completed_later in expected):
        fix = "must be complete; leave _partial_ out" if partial else "is completed later; add _partial_: true"
        raise UserError(f"{place}: {name} {fix}")
    if inspect.isabstract(target):
        raise UserError(f"{place}: {name} is an interface; name a class that implements it")


def find_module_file(module: str) -> Path | None:
    """Return the source file of a module by its dotted name, without importing anything; None where there is none."""
    package, *inner = module.split(".")
    if package == PACKAGE:
        roots = [Path(folder) for folder in framework.__path__]
    else:
        try:
            spec = find_spec(package)  # of a top-level package, which imports nothing
        except (ImportError, ValueError):
            return None
        if spec is None:
            return None
        if not spec.submodule_search_locations:
            source = Path(spec.origin or "")
            return source if not inner and source.suffix == ".py" else None
        roots = [Path(folder) for folder in spec.submodule_search_locations]
    for root in roots:
        place = root.joinpath(*inner)
        for file in (place / "__init__.py", place.with_suffix(".py") if inner else place / "__init__.py"):
            if file.is_file():
                return file
    return None


def _expected_interfaces(hint: object) -> list[ExpectedInterface]:
    """Return the interfaces that an annotation names."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return [interface for option in args for interface in _expected_interfaces(option)]
    if origin is collections.abc.Callable:
        return [(interface, True) for interface, partial in _expected_interfaces(args[-1]) if not partial]
    return [(hint, False)] if inspect.isclass(hint) and group_of(hint) is not None else []


def _require_defined(file: Path, attribute: str, name: str, place: str) -> None:
    """Raise UserError unless the file has a class, or a function that is marked, of that name at its top level."""
    try:
        definitions = _definitions(file, file.stat().st_mtime_ns)
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{place}: {file} is not valid Python ({error}); fix it or name another _target_") from None
    match definitions.get(attribute):
        case None:
            raise UserError(f"{place}: {name!r} was not found; check the spelling of _target_")
        case ast.ImportFrom() | ast.Import() as node:
            alias = next(alias for alias in node.names if (alias.asname or alias.name) == attribute)
            source = getattr(node, "module", None)
            probable = "" if source is None or source.startswith(".") else f", probably {source}.{alias.name}"
            raise UserError(f"{place}: {name!r} is only imported there; name the module that defines it{probable}")
        case ast.FunctionDef() as node if not any(map(_is_configurable, node.decorator_list)):
            raise UserError(f"{place}: {_unmarked_message(name)}")


@cache
def _definitions(file: Path, _changed: int) -> dict[str, ast.stmt]:
    """Return what first defines each name at the top level of a source file, which is read again when it changed."""
    found: dict[str, ast.stmt] = {}
    for node in ast.parse(file.read_bytes()).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            found.setdefault(node.name, node)
        elif isinstance(node, (ast.ImportFrom, ast.Import)):
            for alias in node.names:
                found.setdefault(alias.asname or alias.name, node)
    return found


def _is_configurable(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return getattr(called, "id", getattr(called, "attr", None)) == configurable.__name__


def _unmarked_message(name: str) -> str:
    return (
        f"{name!r} may not be named by a configuration; expected a class of one of the framework's interfaces, "
        "or one marked with framework.configurable.configurable"
    )
