"""Mark of the targets that a configuration may name: an interface with all its subclasses, or one factory."""

import inspect
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T", bound=Callable)
MARK = "__configurable__"


def configurable(group: str) -> Callable[[T], T]:
    """Let a configuration name a class, and its subclasses, or a function where one of `group` is expected.

    A marked class or function must do nothing when it is called but store its arguments: the origin of a configuration
    may be unknown.
    """

    def mark(target: T) -> T:
        setattr(target, MARK, group)
        return target

    return mark


def with_settings_of(target: Callable) -> Callable[[T], T]:
    """Let a configuration name the parameters of `target` as further ones of a function, which takes them as `**`."""

    def extend(function: T) -> T:
        own = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
        further = [p.replace(kind=p.KEYWORD_ONLY) for p in inspect.signature(target).parameters.values()]
        returns = inspect.signature(function).return_annotation
        signature = inspect.Signature([*own, *further], return_annotation=returns)
        annotations = {p.name: p.annotation for p in signature.parameters.values()}
        setattr(function, "__signature__", signature)  # noqa: B010  functions declare no such attribute
        setattr(function, "__annotations__", {**annotations, "return": returns})  # noqa: B010
        return function

    return extend


def group_of(target: object) -> str | None:
    """Return the group with which a class, one of its bases, or a function is marked; None for no mark."""
    return getattr(target, MARK, None)
