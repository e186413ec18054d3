"""Overrides written so that Hydra and a shell read them as they were meant."""

import shlex
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

# the last parts of keys that hold paths
PATHS = (
    *("path", "store", "table", "leaderboard", "runs", "run", "sweep", "truth", "submission", "pretrained"),
    *("folder", "file", "storage", "dir"),
)


def override(key: str, value: str) -> str:
    """An override of a text, with quotes where Hydra would read its signs as its own."""
    plain = f"{key}={value}"
    if _reads_as(plain, value):
        return plain
    escaped = value.replace('"', '\\"')
    return f'{key}="{escaped}"'


def pasted(words: Sequence[str]) -> str:
    """A command as it can be pasted into a shell."""
    return shlex.join(words)


def unquoted(words: Sequence[str]) -> list[str]:
    """The words of a command line that set a path which Hydra reads as something else, as they must be typed."""
    found = []
    for word in words:
        key, sign, value = word.partition("=")
        if sign and key.rpartition(".")[2].lstrip("+") in PATHS and not value.startswith(('"', "'")):
            meant = override(key, value)
            found += [shlex.quote(meant)] if meant != word else []
    return found


def _reads_as(word: str, value: str) -> bool:
    try:
        [told] = OverridesParser.create().parse_overrides([word])
    except OverrideParseException:
        return False
    return not told.is_sweep_override() and told.value() == value
