"""Keys and commands of earlier versions, and the names that replaced them."""

from collections.abc import Mapping

OLD_KEYS: Mapping[str, str] = {
    "action": "the command experiments.verify",
}


def replaced(key: str) -> str | None:
    """Return the message on a key of an earlier version; None for any other key."""
    new = OLD_KEYS.get(key)
    return None if new is None else f"the key {key!r} of an earlier version was replaced: use {new}"
