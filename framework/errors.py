"""The two kinds of failure: what the user can fix, in one line, and a fault of the program, with its traceback."""


class UserError(ValueError):
    """Input that the user can mend; the command line prints its message alone and exits with 1."""

    def __init__(self, message: str):
        super().__init__(" ".join(message.split()))


class UnwritableError(UserError):
    """A place that cannot be written, as a full disk: no reason to try something else there."""


class InternalError(Exception):
    """A fault of the program in another process; `trace` is the traceback there."""

    def __init__(self, message: str, trace: str):
        super().__init__(message, trace)
        self.trace = trace

    def __str__(self) -> str:
        return self.args[0]
