"""Atomic writes, and locks that keep other processes out of a folder or a file."""

import fcntl
import glob
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from framework.errors import UserError


@contextmanager
def open_atomic(file: Path, mode: str = "w", **options: Any) -> Iterator[IO[Any]]:
    """Open a file that takes its name when it is complete; a failure leaves nothing of it behind.

    An error of the system names the file. Threads may write the same file: the last one's is kept. A partial file is
    locked, so that one left by a killed process is recognised, and removed when the file is next written.
    """
    with name_file_in_errors(file):
        _remove_abandoned(file)
        partial = file.with_name(f"{file.name}.{secrets.token_hex(4)}.new")
        descriptor = _open_locked(partial, file, wait=True)
        try:
            with open(descriptor, mode, closefd=False, **options) as new:
                yield new
            os.fsync(descriptor)
            os.replace(partial, file)
        finally:
            partial.unlink(missing_ok=True)
            os.close(descriptor)


def _remove_abandoned(file: Path) -> None:
    for partial in file.parent.glob(f"{glob.escape(file.name)}.*.new"):
        with suppress(FileNotFoundError, BlockingIOError), partial.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            partial.unlink()


def write_atomic(file: Path, text: str) -> None:
    """Write a text that is there complete or not at all."""
    with open_atomic(file, encoding="utf-8", newline="") as new:
        new.write(text)


@contextmanager
def name_file_in_errors(file: Path) -> Iterator[None]:
    """Have the system's errors name the file, as they do not where it is open already (a full disk)."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(file)
        raise


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder, which is made where there is none; the lock ends with its process.

    Raise UserError where another process holds the folder, or it cannot be written.
    """
    with explain_unwritable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def lock_file(file: Path, option: str, wait: bool = False) -> Iterator[None]:
    """Keep other processes from `file` by a file `<file>.lock` beside it; the lock ends with its process.

    Raise UserError, which names the command line's `option` for the place, where it cannot be written or, unless the
    caller is to `wait`, another process holds it.
    """
    lock = file.with_name(f"{file.name}.lock")
    with explain_unwritable(lock.parent, option):
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _open_locked(lock, file, wait)
    try:
        yield
    finally:
        with suppress(OSError):  # the lock is the open file's: one that stays behind keeps no process out
            lock.unlink()
        os.close(descriptor)


def _open_locked(lock: Path, file: Path, wait: bool) -> int:
    """Open and lock a file that belongs to `file`, making sure that it still has its name."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(descriptor, file, wait)
            if os.fstat(descriptor).st_ino == os.stat(lock).st_ino:
                return descriptor
        except FileNotFoundError:
            pass  # removed by the process that held it
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, place: Path, wait: bool = False) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError as error:
        raise UserError(
            f"another process is writing to {place}; wait until it has ended, then give the same command again"
        ) from error


@contextmanager
def explain_unwritable(place: Path, option: str = "runs") -> Iterator[None]:
    """Raise a system's refusal to write there as an error for the user, who chooses the place by `option`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write to {place} ({error.strerror}); choose another place with {option}=..."
        ) from error


def size_of(path: Path) -> int:
    """The bytes of a regular file. Raises UserError for a folder, device, pipe or socket, which is never opened."""
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(error.strerror or str(error)) from None
    kinds = {"ISDIR": "folder", "ISFIFO": "pipe", "ISCHR": "device", "ISBLK": "device", "ISSOCK": "socket"}
    for test, kind in kinds.items():
        if getattr(stat, f"S_{test}")(status.st_mode):
            raise UserError(f"it is a {kind}; expected a regular file")
    return status.st_size
