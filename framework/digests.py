"""Digests of a run's files, `digests.json`, by which files that are not as they were written are refused.

They are written once all results are complete, before these are read for a report or by another command. Files that are
rewritten later (status, report) are excluded; in `manifest.json` only `finished` is added afterwards.
"""

import hashlib
import json
import shlex
import struct
import zlib
from collections.abc import Collection, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from framework.errors import UserError
from framework.files import write_atomic

FILE, MANIFEST = "digests.json", "manifest.json"
FORMAT = 3  # of a run's folder: names of files, and the keys and targets within them
ADDED_LATER = "finished"  # added to the manifest once the run is sealed
# raised by NumPy and JSON for a damaged archive of arrays
READ_ERRORS = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, EOFError, SyntaxError),
    *(BadZipFile, zlib.error, struct.error),
)


def seal(run: Path, without: Collection[str] = ()) -> None:
    """Write the digest of every file of a run, except for the files and folders named in `without`."""
    files = {name: _digest_file(run, name) for name in _files_under(run) if name.split("/")[0] not in {FILE, *without}}
    content = {"format": FORMAT, "version": version("prognax"), "digest": _digest_tree(files), "files": files}
    write_atomic(run / FILE, json.dumps(content, indent=1))


def unseal(run: Path) -> None:
    """Remove the digests, because the files are about to change."""
    (run / FILE).unlink(missing_ok=True)


def check(run: Path, *names: str) -> None:
    """Raise UserError unless these files and folders (all where none is named) are as the run wrote them.

    No file may be changed, missing or added. A name that the run did not write and that does not exist passes.
    """
    files = _read_digests(run)
    written = {name for name in files if _is_within(name, names)}
    present = {file for name in names for file in _files_under(run, name)}
    for name in sorted(written | present):
        if name not in files:
            raise UserError(f"{run / name} was not written by the run; remove it, or {_remake_advice(run)}")
        if not (run / name).is_file():
            raise UserError(f"{run / name} is missing; restore it, or {_remake_advice(run)}")
        if _digest_file(run, name) != files[name]:
            raise UserError(f"{run / name} is not what the run wrote; restore it, or {_remake_advice(run)}")


def digest_arrays(arrays: Iterable[np.ndarray]) -> str:
    """Return the SHA-256 over the shapes and bytes of arrays."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.shape}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def _read_digests(run: Path) -> dict[str, str]:
    if not (run / FILE).is_file():
        raise UserError(
            f"the run at {run} has no digests of its files: it has not finished, lost them, or an earlier version "
            f"wrote it; {_remake_advice(run)}"
        )
    try:
        content = json.loads((run / FILE).read_bytes())
        digest, files = content["digest"], content["files"]
        format, writer = content.get("format", 1), content.get("version", "0.1.0")
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{run / FILE} is damaged; restore it, or {_remake_advice(run)}") from error
    if digest != _digest_tree(files):
        raise UserError(f"{run / FILE} is not what the run wrote; restore it, or {_remake_advice(run)}")
    if format != FORMAT:
        raise UserError(
            f"the run at {run} was written by prognax {writer} in format {format}; expected format {FORMAT}, "
            f"which prognax {version('prognax')} writes; {_remake_advice(run)}"
        )
    return files


def _remake_advice(run: Path) -> str:
    """Return advice to repeat the run, by the manifest's command if that is a plain command of ours.

    A run of unknown origin may name any command.
    """
    command = "the command that made it"
    try:
        text = json.loads((run / MANIFEST).read_bytes())["command"] if (run / MANIFEST).is_file() else ""
        if text.isprintable() and text.startswith("python -m experiments.") and shlex.join(shlex.split(text)) == text:
            command = text
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass  # the generic advice is kept
    return f"delete the folder and give its command again: {command}"


def _is_within(name: str, names: Collection[str]) -> bool:
    return not names or any(name == allowed or name.startswith(f"{allowed}/") for allowed in names)


def _files_under(run: Path, name: str = ".") -> Iterator[str]:
    """Yield the path of each file, relative to the run's folder."""
    place = run / name
    for file in [place] if place.is_file() else sorted(place.rglob("*")):
        if file.is_file():
            yield file.relative_to(run).as_posix()


def _digest_file(run: Path, name: str) -> str:
    """Return the SHA-256 of a file's content; of the manifest as a tree, without entries that are added later."""
    content = (run / name).read_bytes()
    if name == MANIFEST:
        try:
            manifest = json.loads(content)
            return _digest_tree({key: value for key, value in manifest.items() if key != ADDED_LATER})
        except (ValueError, AttributeError):  # not a manifest, hence compared as it is
            pass
    return hashlib.sha256(content).hexdigest()


def _digest_tree(tree: object) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
