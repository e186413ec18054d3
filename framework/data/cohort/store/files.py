"""The files of a cohort: its manifest, its arrays, and the digests that hold them to what was written.

The manifest holds its own digest, one of each table, of each array's metadata (less the sizes that an append changes),
of each scan and of the files beside the arrays. An append leaves its files in `APPENDED` until the manifest that names
their digests is there; readers find them in either place.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version

import fsspec
import numpy as np
import zarr
from zarr.storage import FsspecStore, LocalStore

from framework.data.cohort.store.atomic import complete, local_path
from framework.errors import UserError

FORMAT = 3  # of a cohort's folder: its files, and the names of roles in its schema
# what JSON and zarr make of damaged files
DAMAGE = (ValueError, RuntimeError, OSError, LookupError, TypeError, AttributeError, ArithmeticError)
GROWING = ("subject", "visit")  # dimensions that an append may lengthen before it is committed
BESIDE = ("ledger.csv",)  # files that belong to the cohort, in its folder
APPENDED = ".append"  # where an append keeps its own until it is committed
REWRITE = "write it again: python -m experiments.ingest ... if_exists=overwrite"
TABLES = {"times": 2, "values": 3, "observed": 3, "static": 2, "static_observed": 2}


def read_manifest(path: str) -> dict:
    """Read the manifest, which lists what must exist.

    Raises UserError where there is no cohort, or its manifest is not what was written.
    """
    files, root = fsspec.url_to_fs(path)
    if not complete(path):
        raise UserError(f"no cohort at {path}; make one with `python -m experiments.ingest`")
    try:
        content = json.loads(files.cat_file(f"{root}/manifest.json"))
        if "format" in content:
            raise UserError(f"the cohort at {path} was written before manifests had digests; {REWRITE}")
        digest, manifest = content["digest"], content["manifest"]
    except DAMAGE as error:
        raise UserError(f"the manifest of {path} is damaged ({line(error)}); {REWRITE}") from error
    if digest != digest_json(manifest):
        raise UserError(f"the manifest of {path} is not what was written; {REWRITE}")
    if manifest["format"] != FORMAT:
        raise UserError(
            f"the cohort at {path} was written by prognax {manifest.get('version', '0.1.0')} in format "
            f"{manifest['format']}; expected format {FORMAT}, which prognax {version('prognax')} writes; {REWRITE}"
        )
    return manifest


def write_manifest(path: str, manifest: Mapping) -> None:
    """Replace the manifest at one stroke."""
    files, root = fsspec.url_to_fs(path)
    content = {"digest": digest_json(manifest), "manifest": manifest}
    files.pipe_file(f"{root}/manifest.json.new", json.dumps(content, indent=1).encode())
    files.mv(f"{root}/manifest.json.new", f"{root}/manifest.json")


def metadata_digest(path: str, name: str = "") -> str:
    """SHA-256 of an array's metadata (of the group's without a name), less the lengths that an append changes.

    Raises one of `DAMAGE` where it is no metadata of ours.
    """
    files, root = fsspec.url_to_fs(path)
    metadata = json.loads(files.cat_file("/".join(part for part in (root, "series.zarr", name, "zarr.json") if part)))
    if name:
        sizes = zip(metadata["dimension_names"], metadata["shape"], strict=True)
        metadata["shape"] = [size for dimension, size in sizes if dimension not in GROWING]
    return digest_json(metadata)


def check_metadata(path: str, manifest: Mapping, names: Iterable[str]) -> None:
    """Raise ValueError unless the metadata of these arrays are those that were written."""
    for name in names:
        if metadata_digest(path, name) != manifest["arrays"][name]:
            raise ValueError(f"the metadata of {name or 'the group'} are not those that were written")


def beside_digests(folder: str) -> dict[str, str]:
    """The SHA-256 of each file of a cohort that lies in this folder, by its name."""
    files, root = fsspec.url_to_fs(folder)
    return {name: sha256_file(f"{folder}/{name}") for name in BESIDE if files.exists(f"{root}/{name}")}


def read_beside(path: str, name: str) -> bytes:
    """A file beside the arrays. Raises UserError where there is none, or not the one that was written."""
    files, root = fsspec.url_to_fs(path)
    digest = read_manifest(path)["beside"].get(name)
    if digest is None:
        raise UserError(f"the cohort at {path} has no {name}; {REWRITE}")
    for place in (f"{root}/{name}", f"{root}/{APPENDED}/{name}"):
        if files.isfile(place):
            content = files.cat_file(place)
            if hashlib.sha256(content).hexdigest() == digest:
                return content
    raise UserError(f"{name} of the cohort at {path} is not what was written, or gone; {REWRITE}")


def settle(path: str) -> None:
    """Put the files of a committed append in their place, and remove those of one that never was committed."""
    files, root = fsspec.url_to_fs(path)
    appended = f"{root}/{APPENDED}"
    if not files.exists(appended):
        return
    if beside_digests(f"{path}/{APPENDED}") == read_manifest(path)["beside"]:
        # those with digests last: killed in between, they are still found where they are, and moved next time
        for place in sorted(files.ls(appended, detail=False), key=lambda place: place.endswith(BESIDE)):
            files.mv(place, f"{root}/{place.rpartition('/')[2]}")
    files.rm(appended, recursive=True)


def listed_scans(manifest: Mapping) -> Iterator[tuple[int, int, str, Mapping]]:
    """Each scan that must exist: its subject, visit and modality, and what was noted of it."""
    for i, entry in enumerate(manifest["subjects"]):
        for j, visit in enumerate(entry["visits"]):
            for name, listed in visit["scans"].items():
                yield i, j, name, listed


def longest_of(manifest: Mapping) -> int:
    """The most visits of any subject."""
    return max((len(entry["visits"]) for entry in manifest["subjects"]), default=0)


def zarr_store(path: str, read_only: bool = False) -> LocalStore | FsspecStore:
    """Where the arrays of the cohort at `path` lie."""
    folder = local_path(path)
    if folder is None:
        return FsspecStore.from_url(f"{path.rstrip('/')}/series.zarr", read_only=read_only)
    return LocalStore(f"{folder}/series.zarr", read_only=read_only)


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
    """An error's message in one line."""
    return " ".join(str(error).split()) or type(error).__name__
