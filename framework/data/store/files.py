"""The files of a cohort: its manifest, its arrays, and the digests that hold them to what was written."""

import hashlib
import json
from collections.abc import Iterator, Mapping

import fsspec
import numpy as np
import zarr
from zarr.storage import FsspecStore, LocalStore

from framework.data.store.atomic import complete
from framework.errors import UserError

FORMAT = 1
DAMAGE = (ValueError, RuntimeError, OSError, LookupError, TypeError, AttributeError)  # what zarr makes of damaged files
TABLES = {"times": 2, "values": 3, "observed": 3, "static": 2, "static_observed": 2}


def read_manifest(path: str) -> dict:
    """What must exist. Raises UserError where there is no cohort, or its manifest is not what was written."""
    files, root = fsspec.url_to_fs(path)
    if not complete(path):
        raise UserError(f"no cohort at {path}; make one with `python -m experiments.ingest`")
    try:
        told = json.loads(files.cat_file(f"{root}/manifest.json"))
        digest, manifest = told["digest"], told["manifest"]
    except DAMAGE as error:
        raise UserError(f"the manifest of {path} is damaged ({line(error)}); ingest the cohort anew") from error
    if digest != digest_json(manifest):
        raise UserError(f"the manifest of {path} is not what was written; ingest the cohort anew")
    if manifest["format"] != FORMAT:
        raise UserError(f"the cohort at {path} has format {manifest['format']}; expected {FORMAT}: ingest it anew")
    return manifest


def write_manifest(path: str, manifest: Mapping) -> None:
    """Replace the manifest at one stroke."""
    files, root = fsspec.url_to_fs(path)
    told = {"digest": digest_json(manifest), "manifest": manifest}
    files.pipe_file(f"{root}/manifest.json.new", json.dumps(told, indent=1).encode())
    files.mv(f"{root}/manifest.json.new", f"{root}/manifest.json")


def listed_scans(manifest: Mapping) -> Iterator[tuple[int, int, str, Mapping]]:
    """Each scan that must exist: its subject, visit and modality, and what was noted of it."""
    for i, entry in enumerate(manifest["subjects"]):
        for j, visit in enumerate(entry["visits"]):
            for name, listed in visit["scans"].items():
                yield i, j, name, listed


def zarr_store(path: str, read_only: bool = False) -> LocalStore | FsspecStore:
    """Where the arrays of the cohort at `path` lie."""
    series = f"{path.rstrip('/')}/series.zarr"
    if "://" in path:
        return FsspecStore.from_url(series, read_only=read_only)
    return LocalStore(series, read_only=read_only)


def zarr_array(group: zarr.Group, name: str) -> zarr.Array:
    """An array of the group. Raises TypeError where it is something else."""
    found = group[name]
    if not isinstance(found, zarr.Array):
        raise TypeError(f"{name} is no array")
    return found


def digest_arrays(*arrays: np.ndarray) -> str:
    """SHA-256 over kinds, shapes and bytes, in hexadecimal."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.dtype}{array.shape}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def digest_json(tree: Mapping) -> str:
    """SHA-256 of a tree, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def sha256_file(path: str) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    files, source = fsspec.url_to_fs(path)
    with files.open(source, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def line(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
