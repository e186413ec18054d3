"""A folder that one process at a time works in."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from framework.errors import UserError


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Nobody else at work in a folder, which is made; whoever dies lets go. Raises UserError where somebody is."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another process is at work in {folder}; wait until it is done, then give the same command again"
            ) from error
        yield
    finally:
        os.close(held)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """What the system has against writing there as an error for the user."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write to {folder} ({error.strerror}); choose another place with runs=...") from error
