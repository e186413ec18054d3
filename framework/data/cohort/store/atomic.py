"""One writer of a cohort at a time, and a cohort that is replaced whole."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from framework.data.cohort.store.lock_object import locked
from framework.errors import UserError

ASIDE, BEFORE = ".new", ".old"  # beside a cohort: its successor while it is written, and what it replaces


def local_path(store: str) -> str | None:
    """The folder of a cohort on a local file system, named by its path or a URL (file://); None elsewhere."""
    files, root = fsspec.url_to_fs(store.rstrip("/"))
    return root if isinstance(files, LocalFileSystem) else None


@contextmanager
def exclusive(store: str, wait: bool = False) -> Iterator[None]:
    """No other process writes the cohort at `store` meanwhile; on a local file system one that dies lets go.

    Raises UserError where another process holds it, unless `wait` is set. Of a store at a URL see `lock_object`.
    """
    folder = local_path(store)
    if folder is None:
        with locked(store, wait):
            yield
        return
    file = Path(f"{folder}.lock")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        held = _locked(file, wait)
    except BlockingIOError:
        raise UserError(
            f"another process is writing the cohort at {store}; wait until it has ended, or name another store with "
            "data.store="
        ) from None
    except OSError as error:
        raise UserError(
            f"cannot write to {file.parent} ({error.strerror}); name another store with data.store="
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):  # the lock is the open file's: one that stays behind locks no other process out
            file.unlink()
        os.close(held)


def _locked(file: Path, wait: bool) -> int:
    """The lock file, open and locked, and still the one that bears its name."""
    while True:
        held = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if os.fstat(held).st_ino == os.stat(file).st_ino:
                return held
        except FileNotFoundError:
            pass  # removed by the one before, who held it
        except BaseException:
            os.close(held)
            raise
        os.close(held)


def replace_whole(store: str) -> None:
    """Put the cohort beside `store` (`ASIDE`) in its place; killed at any moment, the one or the other is there."""
    files, root = fsspec.url_to_fs(store)
    before = f"{store}{BEFORE}"
    discard(before)
    if local_path(store) is not None:
        if Path(root).exists():
            os.rename(root, fsspec.url_to_fs(before)[1])
    elif files.exists(f"{root}/manifest.json"):
        files.rm_file(f"{root}/manifest.json")  # from now on the cohort aside is the one that is there
    complete(store)
    discard(before)


def complete(store: str) -> bool:
    """Finish a replacement that was stopped between its two steps; whether a cohort is at `store` now."""
    files, root = fsspec.url_to_fs(store.rstrip("/"))
    if files.exists(f"{root}/manifest.json"):
        return True
    aside = f"{root}{ASIDE}"
    if not files.exists(f"{aside}/manifest.json") or not vacant(store):
        return False
    discard(store)
    if local_path(store) is not None:
        with suppress(FileNotFoundError):  # another process was faster
            os.rename(aside, root)
        return files.exists(f"{root}/manifest.json")
    for file in sorted(files.find(aside), key=lambda file: file.endswith("/manifest.json")):  # the manifest is last
        to = f"{root}{file.removeprefix(aside)}"
        files.makedirs(to.rpartition("/")[0], exist_ok=True)
        files.cp_file(file, to)
    files.rm(aside, recursive=True)
    return True


def vacant(store: str) -> bool:
    """Whether nothing is at `store` but perhaps files that a killed writer left."""
    files, root = fsspec.url_to_fs(store)
    return not files.exists(root) or not files.ls(root) or files.exists(f"{root}/series.zarr")


def discard(folder: str) -> None:
    """Remove a folder, if it is there."""
    files, root = fsspec.url_to_fs(folder)
    if files.exists(root):
        files.rm(root, recursive=True)
