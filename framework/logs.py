"""Messages of a command on standard error, one plain line each; warnings and errors begin with their level.

Modules write to `logging.getLogger(__name__)`. Results that were asked for go to standard output instead.
"""

import logging
import sys
from collections.abc import Sequence

from framework.errors import UserError

PACKAGES = ("framework", "experiments", "hydra_plugins")
LEVELS = {"--quiet": logging.WARNING, "--verbose": logging.DEBUG}
PREFIXES = {logging.WARNING: "warning: ", logging.ERROR: "error: "}


class _StandardError(logging.Handler):
    """Handler that writes to what `sys.stderr` is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(f"{PREFIXES.get(record.levelno, '')}{record.getMessage()}", file=sys.stderr, flush=True)
        except Exception:  # as in the handlers of `logging`: a message that fails is reported and ends no command
            self.handleError(record)


def configure(level: int = logging.INFO) -> None:
    """Show the messages of this project from `level` on; other libraries' loggers stay as they are."""
    for name in PACKAGES:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [_StandardError()], False
        logger.setLevel(level)


def split_verbosity(arguments: Sequence[str]) -> tuple[int, list[str]]:
    """Return the level that `--quiet` or `--verbose` among the arguments names, and the other arguments."""
    named = [word for word in arguments if word in LEVELS]
    if len(set(named)) > 1:
        raise UserError("got --quiet and --verbose, expected one of them; fix: leave one out")
    return (LEVELS[named[0]] if named else logging.INFO), [word for word in arguments if word not in LEVELS]


def verbosity_options() -> list[str]:
    """Return the option that gives another process the level of this one; none at the default level."""
    current = logging.getLogger(PACKAGES[0]).level
    return [option for option, level in LEVELS.items() if level == current]


def shows_progress_bars() -> bool:
    """Return whether standard error is a terminal that shows progress, but no line for each step."""
    return sys.stderr.isatty() and logging.getLogger(PACKAGES[0]).level == logging.INFO
