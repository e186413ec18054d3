"""Mark of the targets that a configuration may name: an interface with all its subclasses, or one factory."""

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


def group_of(target: object) -> str | None:
    """Return the group with which a class, one of its bases, or a function is marked; None for no mark."""
    return getattr(target, MARK, None)
