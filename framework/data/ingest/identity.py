"""The sources of a cohort: the SHA-256 of every source file and the settings of its reader."""

import hashlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fsspec

from framework.data.cohort.schema import Subject
from framework.data.cohort.store import Cohort, sha256_file
from framework.data.cohort.store.atomic import local_path
from framework.errors import UserError
from framework.files import size_of

STAMPS = "stamps.json"
SMALL = 2**20  # bytes; a smaller file is read every time
Digests = dict[str, dict[str, str]]


class Origin:
    """The record of where a cohort comes from, made before anything is read and complete once all has been.

    Each hash is of the bytes that were read; a file that was not read to its end is hashed afterwards.
    """

    def __init__(self, files: Mapping[str, Path], settings: Mapping[str, Any]):
        self._files, self._stamps = files, {part: _stamp(file) for part, file in files.items()}
        self._hashes: dict[str, str] = {}
        self.record: dict[str, Any] = {"reader": settings["reader"], "settings": dict(settings)}
        self.record |= {"files": {}, "warnings": [], "sources": {}}

    def read(self, tables: Mapping[str, str]) -> None:
        """Take note of tables by name, with their hashes."""
        self.record["sources"].update(tables)
        self._hashes |= tables

    def saw(self, subject: Subject) -> None:
        """Take note of the files of a subject's scans."""
        scans = (scan for visit in subject.visits for scan in visit.scans.values())
        self._hashes |= {scan.source.path: scan.source.sha256 for scan in scans if scan.source}

    def complete(self, folder: str, warnings: Sequence[str]) -> None:
        """Fill the record in; hashes by stamp are kept in the cohort's folder."""
        for part, file in sorted(self._files.items()):
            known = self._hashes.get(part) or self._hashes.get(file.name)
            self.record["files"][part] = {"name": file.name, "sha256": known or sha256_file(str(file))}
        self.record["warnings"].extend(warnings)
        large = {part: stamp for part, (stamp, size) in self._stamps.items() if size >= SMALL}
        keep_stamps(folder, {stamp: self.record["files"][part]["sha256"] for part, stamp in large.items()})


def digests(files: Mapping[str, Path], known: Mapping[str, str]) -> tuple[Digests, dict[str, str]]:
    """The name and SHA-256 of each source file, by its part in the data, and the hashes of large ones by stamp.

    What is `known` by its stamp is not read again.
    """
    found, stamps = {}, {}
    for part, file in sorted(files.items()):
        stamp, size = _stamp(file)
        sha256 = known.get(stamp) or sha256_file(str(file))
        found[part] = {"name": file.name, "sha256": sha256}
        if size >= SMALL:
            stamps[stamp] = sha256
    return found, stamps


def _stamp(file: Path) -> tuple[str, int]:
    """A stamp that changes when a file is written or replaced, even by one of the same length and date; its length."""
    try:
        size_of(file)
    except UserError as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    status = os.stat(file)
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}", status.st_size


def identity(settings: Mapping[str, Any], files: Mapping[str, Path]) -> str:
    """The SHA-256, in hexadecimal, of a reader's settings and of the contents of its files."""
    hashes = {part: file["sha256"] for part, file in digests(files, {})[0].items()}
    return hashlib.sha256(json.dumps([plain(settings), hashes], sort_keys=True).encode()).hexdigest()


def keep_stamps(store: str, stamps: Mapping[str, str]) -> None:
    """Keep hashes by stamp beside a cohort, so that files that were not touched need not be read again."""
    if not stamps:
        return
    files, root = fsspec.url_to_fs(store)
    files.makedirs(root, exist_ok=True)
    aside = f"{root}/{STAMPS}.{secrets.token_hex(8)}"  # processes of two computers may have one number
    files.pipe_file(aside, json.dumps(dict(stamps)).encode())
    files.mv(aside, f"{root}/{STAMPS}")


def require_same(
    cohort: Cohort, settings: Mapping[str, Any], files: Mapping[str, Path] | None, alone: bool = False
) -> None:
    """Raise UserError unless the cohort was made from these files (None: whichever) with these settings.

    A cohort to which others were appended passes as each of them, unless it must be these files' `alone`.
    """
    provenance = cohort.manifest["provenance"]
    parts = [provenance, *provenance.get("appended", ())]
    fix = (
        "name another store with data.store=, or write the cohort again: python -m experiments.ingest ... "
        "if_exists=overwrite"
    )
    if any("settings" not in part for part in parts):
        raise UserError(
            f"the cohort at {cohort.path} does not say which files and settings it was made from (an earlier version "
            f"wrote it); {fix}"
        )
    if alone and len(parts) > 1:
        raise UserError(f"the cohort at {cohort.path} holds other files too, which were appended to it; {fix}")
    known = _stamps(cohort.path)
    asked, stamps = (None, {}) if files is None else digests(files, known)
    faults = [_difference(part, settings, asked) for part in parts]
    if all(faults):
        raise UserError(f"the cohort at {cohort.path} was made {faults[0]}; {fix}")
    folder = local_path(cohort.path)
    if not stamps.items() <= known.items() and (folder is None or os.access(folder, os.W_OK)):
        keep_stamps(cohort.path, known | stamps)


def _difference(part: Mapping[str, Any], settings: Mapping[str, Any], asked: Digests | None) -> str | None:
    """The first source or setting of a part of a cohort that differs from the ones given; None where none differs."""
    if asked is not None and part["files"] != asked:
        names = {key: (part["files"].get(key), asked.get(key)) for key in sorted({*part["files"], *asked})}
        changed = {key: pair for key, pair in names.items() if _hash(pair[0]) != _hash(pair[1])}
        if changed:
            key, (had, has) = next(iter(changed.items()))
            more = f" (and {len(changed) - 1} more files differ)" if len(changed) > 1 else ""
            return f"from other files: {_called(key, had)}, where data.path has {_called(key, has)}{more}"
    place = _first_difference(part["settings"], dict(settings), "data.reader")
    return place and f"with other settings: {place}"


def _hash(file: Mapping[str, str] | None) -> str | None:
    return None if file is None else file["sha256"]


def _called(part: str, file: Mapping[str, str] | None) -> str:
    return f"no {part}" if file is None else f"{file['name']} (SHA-256 {file['sha256'][:12]})"


def _first_difference(had: Any, has: Any, path: str) -> str | None:
    if isinstance(had, Mapping) and isinstance(has, Mapping):
        for key in [*has, *(key for key in had if key not in has)]:
            found = _first_difference(had.get(key, "unset"), has.get(key, "unset"), f"{path}.{key}")
            if found:
                return found
        return None
    return None if had == has else f"{path} was {_brief(had)} and is {_brief(has)}"


def _brief(value: Any) -> str:
    text = value if value == "unset" else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def plain(value: Any) -> Any:
    """A setting as JSON has it. Raises TypeError for what it cannot hold."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"a reader's setting is {value!r}; expected what JSON can hold, or another reader")


def _stamps(store: str) -> dict[str, str]:
    """Hashes by stamp; none where their file is absent or damaged: what has no stamp is read and hashed."""
    files, root = fsspec.url_to_fs(store)
    if not files.exists(f"{root}/{STAMPS}"):
        return {}
    try:
        stamps = json.loads(files.cat_file(f"{root}/{STAMPS}"))
    except ValueError:
        return {}
    sound = isinstance(stamps, dict) and all(isinstance(sha256, str) for sha256 in stamps.values())
    return stamps if sound else {}
