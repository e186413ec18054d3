"""The digests of a run's files, `digests.json`: what was written is what is read, or it is refused.

Written once all results are there, before they are read for a report or by another command. Files that are rewritten
later (how a run stands, its report) are not among them; in `manifest.json` `finished` alone is added afterwards.
"""

import hashlib
import json
import shlex
import struct
import zlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from framework.errors import UserError
from framework.files import write_atomic

FILE, MANIFEST = "digests.json", "manifest.json"
LATER = "finished"  # what the manifest is given once the run is sealed
# what NumPy and JSON make of a damaged archive of arrays
UNREADABLE = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, EOFError, SyntaxError),
    *(BadZipFile, zlib.error, struct.error),
)


def seal(run: Path, without: Collection[str] = ()) -> None:
    """Write the digest of every file of a run, except for those called, or under folders called, `without`."""
    files = {name: _digest(run, name) for name in _under(run) if name.split("/")[0] not in {FILE, *without}}
    write_atomic(run / FILE, json.dumps({"digest": _of_tree(files), "files": files}, indent=1))


def unseal(run: Path) -> None:
    """Take the digests away, because what they are of is about to change."""
    (run / FILE).unlink(missing_ok=True)


def check(run: Path, *names: str) -> None:
    """Raise UserError unless these files (all where none is named), and the files in these folders, are those that the
    run wrote: none changed, gone or added. What the run did not write, and is not there, passes.
    """
    files = _read(run)
    written = {name for name in files if _among(name, names)}
    there = {file for name in names for file in _under(run, name)}
    for name in sorted(written | there):
        if name not in files:
            raise UserError(f"{run / name} was not written by the run; remove it, or {_again(run)}")
        if not (run / name).is_file():
            raise UserError(f"{run / name} is gone; restore it, or {_again(run)}")
        if _digest(run, name) != files[name]:
            raise UserError(f"{run / name} is not what the run wrote; restore it, or {_again(run)}")


def digest_of(arrays: Iterable[np.ndarray]) -> str:
    """SHA-256 over the shapes and bytes of arrays."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.shape}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def _read(run: Path) -> dict[str, str]:
    if not (run / FILE).is_file():
        raise UserError(
            f"the run at {run} has no digests of its files: it has not finished, lost them, or an earlier version "
            f"wrote it; {_again(run)}"
        )
    try:
        told = json.loads((run / FILE).read_bytes())
        digest, files = told["digest"], told["files"]
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{run / FILE} is damaged; restore it, or {_again(run)}") from error
    if digest != _of_tree(files):
        raise UserError(f"{run / FILE} is not what the run wrote; restore it, or {_again(run)}")
    return files


def _again(run: Path) -> str:
    """How to have the run made again; by its own command where the manifest still says it, and it is no more than that:
    a run may come from elsewhere.
    """
    command = "the command that made it"
    try:
        said = json.loads((run / MANIFEST).read_bytes())["command"] if (run / MANIFEST).is_file() else ""
        if said.isprintable() and said.startswith("python -m experiments.") and shlex.join(shlex.split(said)) == said:
            command = said
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass  # the generic words do
    return f"delete the folder and give its command again: {command}"


def _among(name: str, names: Collection[str]) -> bool:
    return not names or any(name == one or name.startswith(f"{one}/") for one in names)


def _under(run: Path, name: str = ".") -> Iterator[str]:
    """Each file that there is, by its path in the run's folder."""
    place = run / name
    for file in [place] if place.is_file() else sorted(place.rglob("*")):
        if file.is_file():
            yield file.relative_to(run).as_posix()


def _digest(run: Path, name: str) -> str:
    """SHA-256 of a file's content; of the manifest as a tree, less what it is given later."""
    content = (run / name).read_bytes()
    if name == MANIFEST:
        try:
            told = json.loads(content)
            return _of_tree({key: value for key, value in told.items() if key != LATER})
        except (ValueError, AttributeError):  # no manifest, and none whose digest was ever written
            pass
    return hashlib.sha256(content).hexdigest()


def _of_tree(tree: object) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
