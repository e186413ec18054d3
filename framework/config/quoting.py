"""Overrides quoted for Hydra and for a shell."""

import shlex
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

# the last parts of keys that hold paths
PATH_KEYS = (
    *("path", "store", "table", "leaderboard", "runs", "run", "sweep", "ground_truth", "submission", "pretrained"),
    *("folder", "file", "storage", "dir"),
)


def quote_override(key: str, value: str) -> str:
    """Return an override that sets a text, quoted where Hydra would interpret its characters."""
    plain = f"{key}={value}"
    if _is_read_as(plain, value):
        return plain
    escaped = value.replace('"', '\\"')
    return f'{key}="{escaped}"'


def join_command(words: Sequence[str]) -> str:
    """Return a command quoted for a shell."""
    return shlex.join(words)


def find_unquoted_paths(words: Sequence[str]) -> list[str]:
    """Return the words that set a path which Hydra would misread, quoted as they must be typed."""
    fixes = []
    for word in words:
        key, sign, value = word.partition("=")
        if sign and key.rpartition(".")[2].lstrip("+") in PATH_KEYS and not value.startswith(('"', "'")):
            quoted = quote_override(key, value)
            fixes += [shlex.quote(quoted)] if quoted != word else []
    return fixes


def _is_read_as(word: str, value: str) -> bool:
    try:
        [parsed] = OverridesParser.create().parse_overrides([word])
    except OverrideParseException:
        return False
    return not parsed.is_sweep_override() and parsed.value() == value
