"""Files that are there whole or not at all, and folders that one process at a time works in."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from framework.errors import UserError


@contextmanager
def whole(file: Path, mode: str = "w", **how: Any) -> Iterator[IO[Any]]:
    """A file to write into, which takes its name when it is complete; a failure leaves nothing of it behind.

    An error of the system names the file. Threads may write the same file: the last one's is kept.
    """
    aside = file.with_name(f"{file.name}.{threading.get_ident()}.new")
    try:
        with naming(file):
            with aside.open(mode, **how) as new:
                yield new
                new.flush()
                os.fsync(new.fileno())
            os.replace(aside, file)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Have the system's errors name the file, as they do not where it is open already (a full disk)."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(file)
        raise


def write_whole(file: Path, text: str) -> None:
    """Write a text so."""
    with whole(file, encoding="utf-8", newline="") as new:
        new.write(text)


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
