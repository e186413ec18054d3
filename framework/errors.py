"""Two kinds of failure: errors that the user can fix, in one line, and faults of the program, with a traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Input that the user can fix; the command line prints its message alone and exits with 1."""

    def __init__(self, message: str):
        super().__init__(" ".join(message.split()))


class UnwritableError(UserError):
    """A place that cannot be written, such as a full disk; nothing else is tried there."""


class InternalError(Exception):
    """A fault of the program in another process; `trace` is the traceback there."""

    def __init__(self, message: str, trace: str):
        super().__init__(message, trace)
        self.trace = trace

    def __str__(self) -> str:
        return self.args[0]


def suggest(name: object, options: Iterable[object], otherwise: str) -> str:
    """Return "did you mean ...?" with the option nearest to `name`; where none is near, the other hint."""
    nearest = get_close_matches(str(name), [str(option) for option in options], n=1)
    return f"did you mean {nearest[0]!r}?" if nearest else otherwise
