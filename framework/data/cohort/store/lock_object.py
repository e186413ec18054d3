"""A lock for stores that are URLs: an object beside the store that one process alone can create.

Object stores have no locks that a dying process lets go, but most create an object on condition that there is none, in
one step (S3's If-None-Match, Google's ifGenerationMatch). Who writes puts its name there, and removes it afterwards.
"""

import inspect
import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import fsspec
from fsspec.asyn import AsyncFileSystem
from fsspec.spec import AbstractFileSystem

from framework.errors import UserError

logger = logging.getLogger(__name__)

PAUSE = 1.0  # seconds between two looks at somebody else's lock


@contextmanager
def locked(store: str, wait: bool) -> Iterator[None]:
    """The lock object beside `store`, created by this process and removed afterwards.

    Raises UserError where there is one already; with `wait`, waits until it is gone. One that a killed process left
    stays until the user removes it: from here it cannot be seen whether the process lives.
    """
    files, root = fsspec.url_to_fs(store.rstrip("/"))
    place, name = f"{root}.lock", f"{store.rstrip('/')}.lock"
    if not creates_in_one_step(files):
        logger.warning(
            "%s:// cannot create an object on condition that there is none, so two processes that begin to write %s in "
            "the same moment damage it; ingest it once, before others use it",
            store.partition("://")[0],
            store,
        )
    mine = json.dumps(
        {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "token": secrets.token_hex(8),
        }
    ).encode()
    said = False
    while not _created(files, place, mine):
        holder = _holder(files, place)
        if holder is None:
            continue  # gone in the meantime
        if not wait:
            raise UserError(
                f"another process ({holder}) is writing the cohort at {store}, or was killed there; wait until it has "
                f"ended, remove {name} if it has, or name another store with data.store="
            )
        if not said:
            logger.warning(
                "waiting for another process (%s), which writes the cohort at %s; if it is gone, remove %s",
                holder,
                store,
                name,
            )
            said = True
        time.sleep(PAUSE)
    try:
        yield
    finally:
        if _read(files, place) == mine:
            files.rm_file(place)


def creates_in_one_step(files: AbstractFileSystem) -> bool:
    """Whether `pipe_file(mode="create")` is the file system's own; fsspec's looks first and writes then."""
    name, base = (
        ("_pipe_file", AsyncFileSystem) if isinstance(files, AsyncFileSystem) else ("pipe_file", AbstractFileSystem)
    )
    own = getattr(type(files), name)
    return own is not getattr(base, name) and "mode" in inspect.signature(own).parameters


def _created(files: AbstractFileSystem, place: str, mine: bytes) -> bool:
    """Whether the object holds these bytes, and so was created by this process."""
    try:
        try:
            files.pipe_file(place, mine, mode="create")
        except FileNotFoundError:  # a file system with folders
            files.makedirs(place.rpartition("/")[0], exist_ok=True)
            files.pipe_file(place, mine, mode="create")
    except FileExistsError:
        return False
    except OSError as error:
        raise UserError(f"cannot write {place} ({error}); name another store with data.store=") from error
    return _read(files, place) == mine


def _read(files: AbstractFileSystem, place: str) -> bytes | None:
    try:
        found = files.cat_file(place)
        return found if isinstance(found, bytes) else found.encode()
    except FileNotFoundError:
        return None


def _holder(files: AbstractFileSystem, place: str) -> str | None:
    """The process that wrote the lock, in words; None where the lock is gone."""
    found = _read(files, place)
    if found is None:
        return None
    try:
        facts = json.loads(found)
        return f"{facts['process']} on {facts['host']}, since {facts['since']}"
    except (ValueError, KeyError, TypeError):
        return "which did not say who it is"
