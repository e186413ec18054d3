"""One writer of a cohort at a time, and a cohort that is replaced whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from framework.data.cohort.store.lock_object import locked
from framework.files import lock_file

ASIDE, BEFORE = ".new", ".old"  # beside a cohort: its successor while it is written, and what it replaces


def local_path(store: str) -> str | None:
    """The folder of a cohort on a local file system, named by its path or a URL (file://); None elsewhere."""
    files, root = fsspec.url_to_fs(store.rstrip("/"))
    return root if isinstance(files, LocalFileSystem) else None


@contextmanager
def exclusive(store: str, wait: bool = False) -> Iterator[None]:
    """Keep other processes from writing the cohort at `store`; on a local file system the lock ends with its process.

    Raise UserError where another process holds the lock, unless `wait` is set. For a store at a URL see `lock_object`.
    """
    folder = local_path(store)
    with locked(store, wait) if folder is None else lock_file(Path(folder), "data.store", wait):
        yield


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
