"""The mark of what a configuration may name as a `_target_`: an interface with all its subclasses, or one factory."""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T", bound=Callable)
MARK = "__configurable__"


def configurable(group: str) -> Callable[[T], T]:
    """Let a configuration name a class, and its subclasses, or a function where one of `group` is expected.

    What is marked must do nothing when it is called but keep its arguments: a configuration may come from elsewhere.
    """

    def mark(made: T) -> T:
        setattr(made, MARK, group)
        return made

    return mark


def group_of(made: object) -> str | None:
    """The group that a class, or one that it inherits from, or a function is marked with; None where none is."""
    return getattr(made, MARK, None)
