"""The cohort on disk: time-indexed scan series as xarray over zarr v3, with a manifest of what must exist.

A cohort is a folder: `series.zarr` (the arrays), `manifest.json`, and beside them the ingest's ledger.
Flat and padded: tables of dims (subject, visit, variable), and per modality one array of dims
(subject, visit, x, y, z, channel) with one scan per chunk and one shard per subject (or for `together` of them,
where scans are small and many), absent visits never written. zarr alone answers a deleted chunk with fill
values and a flipped bit with wrong voxels, so every chunk carries a CRC-32C and `manifest.json` lists each scan
with the digest of its voxels and the SHA-256 of its source file. The manifest is written last: a folder without
one is no cohort.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import fsspec
import numpy as np
import xarray as xr
import zarr
from jaxtyping import Bool, Float
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import FsspecStore, LocalStore

from framework.data.schema import Schema, Subject, Variable, validate
from framework.errors import UserError

FORMAT = 1
VISITS_PER_SHARD = 16
SUBJECTS_PER_CHUNK = 256
DAMAGE = (ValueError, RuntimeError, OSError, LookupError, TypeError, AttributeError)  # what zarr makes of damaged files
TABLES = {"times": 2, "values": 3, "observed": 3, "static": 2, "static_observed": 2}


@dataclass(frozen=True)
class Cohort:
    """An opened cohort: its tables in memory (n subjects, t visits), its scans on disk until asked for."""

    path: str
    schema: Schema
    manifest: Mapping
    times: Float[np.ndarray, "n t"]
    values: Float[np.ndarray, "n t f"]
    observed: Bool[np.ndarray, "n t f"]
    static: Float[np.ndarray, "n s"]
    static_observed: Bool[np.ndarray, "n s"]

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        return tuple(entry["id"] for entry in self.manifest["subjects"])

    @cached_property
    def visits(self) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(visit["id"] for visit in entry["visits"]) for entry in self.manifest["subjects"])

    @cached_property
    def valid(self) -> Bool[np.ndarray, "n t"]:
        """Which of the padded visits are real."""
        counts = np.array([len(visits) for visits in self.visits], int).reshape(-1, 1)
        return np.arange(self.times.shape[1]) < counts

    @cached_property
    def present(self) -> dict[str, Bool[np.ndarray, "n t"]]:
        """Which scans of each modality exist."""
        tables = {m.name: np.zeros(self.times.shape, bool) for m in self.schema.modalities}
        for i, j, name, _ in _listed(self.manifest):
            if name in tables:
                tables[name][i, j] = True
        return tables

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over schema, tables and voxels: equal for equal data, whatever folder they lie in."""
        return _digest_json({key: self.manifest[key] for key in ("format", "schema", "subjects")})

    @cached_property
    def _group(self) -> zarr.Group:
        return zarr.open_group(_zarr_store(self.path, read_only=True), mode="r")

    @cached_property
    def _arrays(self) -> dict[str, zarr.Array]:
        """The arrays of scans opened so far: looking one up reads its metadata anew."""
        return {}

    @cached_property
    def dataset(self) -> xr.Dataset:
        """The cohort as a lazy xarray Dataset, with ids and variable names as coordinates."""
        dataset = xr.open_zarr(_zarr_store(self.path, read_only=True), chunks=None, consolidated=False)
        return dataset.assign_coords(
            subject=list(self.subjects),
            variable=[v.name for v in self.schema.variables],
            static_variable=[v.name for v in self.schema.static],
        )

    def voxels(self, modality: str, subject: int, visit: int) -> Float[np.ndarray, "x y z c"]:
        """One scan. Raises UserError where it is not listed, gone from the store, or damaged."""
        where = f"subject {self.subjects[subject]!r}, visit {self.visits[subject][visit]!r}, {modality}"
        if not self.present[modality][subject, visit]:
            raise UserError(f"{where}: the cohort lists no such scan; ask `present` first")
        try:
            if modality not in self._arrays:
                self._arrays[modality] = _zarr_array(self._group, f"scan_{modality}")
            voxels = np.asarray(self._arrays[modality][subject, visit])
        except DAMAGE as error:
            raise UserError(f"{where}: its chunk is damaged ({_line(error)}); ingest the cohort anew") from error
        if np.isnan(voxels).all():
            raise UserError(f"{where}: listed, but its chunk is missing from {self.path}; ingest the cohort anew")
        return voxels

    def column(self, variable: str) -> int:
        """The index of a visit variable in `values`."""
        return self.schema.variables.index(self.schema.variable(variable))


class Writer:
    """Adds subjects to a cohort, scans as soon as a shard is full, tables and manifest on `commit`.

    A new cohort keeps the scans of `together` subjects in one shard; one that is there keeps to its own shards.
    """

    def __init__(self, path: str, schema: Schema, manifest: dict, together: int = 1):
        self.path, self.schema, self.manifest, self._together = path, schema, manifest, together
        self._first = len(manifest["subjects"])
        self._group = zarr.open_group(_zarr_store(path), mode="a")
        self._rows: list[Subject] = []
        self._known = {entry["id"] for entry in manifest["subjects"]}
        self._arrays = {m.name: self._array(f"scan_{m.name}", (*m.shape, m.channels)) for m in schema.modalities}
        self._together = max((array.shards[0] for array in self._arrays.values() if array.shards), default=together)
        self._waiting: list[dict[str, np.ndarray]] = []  # scans of the last subjects, by modality

    def add(self, subject: Subject) -> None:
        """Write one subject's scans. Raises UserError before anything of it is written if it breaks the schema."""
        validate(subject, self.schema)
        if subject.id in self._known:
            raise UserError(f"subject {subject.id!r} is in the cohort already; give each subject its own id")
        self._known.add(subject.id)
        visits = [{"id": visit.id, "scans": {}} for visit in subject.visits]
        scans: dict[str, np.ndarray] = {}
        for name, array in self._arrays.items():
            scans[name] = np.full((len(visits), *array.shape[2:]), np.nan, np.float32)
            for j, visit in enumerate(subject.visits):
                if name not in visit.scans:
                    continue
                scan = visit.scans[name]
                scans[name][j] = scan.voxels
                entry = {"voxels": _digest(scans[name][j])}
                if scan.source:
                    entry |= {"source": scan.source.path, "sha256": scan.source.sha256}
                visits[j]["scans"][name] = entry
        self._waiting.append(scans)
        # scans go to disk: what is kept of the subject is its row alone
        row = replace(subject, visits=tuple(replace(visit, scans={}) for visit in subject.visits))
        self._rows.append(row)
        digest = _digest(*_row(row, self.schema).values())
        self.manifest["subjects"].append({"id": subject.id, "visits": visits, "tables": digest})
        if (self._first + len(self._rows)) % self._together == 0:
            self._flush()

    def _flush(self) -> None:
        """Write the scans that wait, whole shards at a time; what is absent is not written."""
        stop = self._first + len(self._rows)
        start = stop - len(self._waiting)
        for name, array in self._arrays.items():
            longest = max((len(scans[name]) for scans in self._waiting), default=0)
            array.resize((stop, max(array.shape[1], longest), *array.shape[2:]))
            block = np.full((stop - start, longest, *array.shape[2:]), np.nan, np.float32)
            for row, scans in zip(block, self._waiting, strict=True):
                row[: len(scans[name])] = scans[name]
            if block.size and not np.isnan(block).all():
                array[start:stop, :longest] = block
        self._waiting = []

    def commit(self) -> None:
        """Write the tables, then the manifest; only now do the added subjects exist."""
        self._flush()
        total = self._first + len(self._rows)
        sizes = {"values": len(self.schema.variables), "observed": len(self.schema.variables)}
        longest = max((len(row.visits) for row in self._rows), default=0)
        for name, rank in TABLES.items():
            width = sizes.get(name, len(self.schema.static))
            array = self._table(name, width)
            visits = max(array.shape[1], longest)
            array.resize({"times": (total, visits)}.get(name, (total, visits, width) if rank == 3 else (total, width)))
            block = np.zeros((len(self._rows), *array.shape[1:]), array.dtype)
            for i, row in enumerate(self._rows):
                table = _row(row, self.schema)[name]
                block[(i, slice(len(table))) if name not in ("static", "static_observed") else i] = table
            if block.size:
                array[self._first :] = block
        for array in self._arrays.values():
            array.resize((total, max(array.shape[1], longest), *array.shape[2:]))
        _write_manifest(self.path, self.manifest)

    def _array(self, name: str, grid: tuple[int, ...]) -> zarr.Array:
        if name in self._group:
            return _zarr_array(self._group, name)
        return self._group.create_array(
            name,
            shape=(0, 0, *grid),
            chunks=(1, 1, *grid),
            shards=(self._together, VISITS_PER_SHARD, *grid),
            dtype="float32",
            fill_value=np.nan,
            compressors=_codecs(),
            dimension_names=("subject", "visit", *(f"{a}_{name}" for a in "xyzc")),
        )

    def _table(self, name: str, width: int) -> zarr.Array:
        if name in self._group:
            return _zarr_array(self._group, name)
        last = "static_variable" if name.startswith("static") else "variable"
        dims = {2: ("subject", last if name != "times" else "visit"), 3: ("subject", "visit", last)}[TABLES[name]]
        inner = {"times": (0,)}.get(name, (0, width) if TABLES[name] == 3 else (width,))
        chunk = tuple(
            VISITS_PER_SHARD if size == 0 and dim == "visit" else max(1, size)
            for size, dim in zip(inner, dims[1:], strict=True)
        )
        kind = "bool" if name.endswith("observed") else "float64"
        return self._group.create_array(
            name,
            shape=(0, *inner),
            chunks=(SUBJECTS_PER_CHUNK, *chunk),
            dtype=kind,
            fill_value=False if kind == "bool" else 0.0,
            compressors=_codecs(),
            dimension_names=dims,
        )


def write(
    path: str, schema: Schema, subjects: Iterable[Subject], provenance: Mapping | None = None, together: int = 1
) -> Cohort:
    """Make a new cohort at `path` (a folder or fsspec URL); on any failure nothing is left behind.

    `together` subjects share a shard: 1 where a scan is a volume, more where scans are many and small.
    """
    if exists(path):
        raise UserError(f"there is a cohort at {path} already; append to it, or delete the folder first")
    files, root = fsspec.url_to_fs(path)
    if files.exists(root) and files.ls(root):
        if not files.exists(f"{root}/series.zarr"):
            raise UserError(f"{path} is a folder with other files in it; name an empty or a new one")
        files.rm(root, recursive=True)  # an ingest that was killed before its manifest
    writer = Writer(
        path,
        schema,
        {"format": FORMAT, "schema": schema.to_json(), "subjects": [], "provenance": dict(provenance or {})},
        together,
    )
    try:
        for subject in subjects:
            writer.add(subject)
        if not writer.manifest["subjects"]:
            raise UserError(f"no subject was left to write to {path}; see the ledger for why each was excluded")
        writer.commit()
    except BaseException:
        files.rm(root, recursive=True)
        raise
    return open_cohort(path)


def append(path: str, subjects: Iterable[Subject], provenance: Mapping | None = None) -> Cohort:
    """Add subjects to the cohort at `path`; until all are written, the cohort stays what it was."""
    manifest = _read_manifest(path)
    manifest["provenance"].setdefault("appended", []).append(dict(provenance or {}))
    writer = Writer(path, Schema.from_json(manifest["schema"]), manifest)
    for subject in subjects:
        writer.add(subject)
    writer.commit()
    return open_cohort(path)


def exists(path: str) -> bool:
    """Whether there is a cohort at `path`, whole."""
    files, root = fsspec.url_to_fs(path)
    return files.exists(f"{root}/manifest.json")


def open_cohort(path: str) -> Cohort:
    """Open the cohort at `path`, a folder or any fsspec URL, without reading a voxel."""
    manifest = _read_manifest(path)
    total = len(manifest["subjects"])  # rows beyond it belong to an append that never committed
    try:
        group = zarr.open_group(_zarr_store(path, read_only=True), mode="r")
        tables = {name: np.asarray(_zarr_array(group, name)[:total]) for name in TABLES}
    except DAMAGE as error:
        raise UserError(f"the tables of {path} are damaged ({_line(error)}); ingest the cohort anew") from error
    longest = max((len(entry["visits"]) for entry in manifest["subjects"]), default=0)
    for name in ("times", "values", "observed"):
        tables[name] = tables[name][:, :longest]
    return Cohort(path=path, schema=Schema.from_json(manifest["schema"]), manifest=manifest, **tables)


def verify(path: str, sources: str | None = None) -> Iterator[str]:
    """Yield one line for each thing of the cohort that is missing or changed, naming subject, visit and file.

    `sources` is the folder the source files were read from, to have their SHA-256 compared as well.
    """
    cohort = open_cohort(path)
    for i, entry in enumerate(cohort.manifest["subjects"]):
        count = len(entry["visits"])
        row = [
            getattr(cohort, name)[i, :count] if "static" not in name else getattr(cohort, name)[i] for name in TABLES
        ]
        if _digest(*row) != entry["tables"]:
            yield f"subject {entry['id']!r}: its clinical values are not those that were written"
    for i, j, name, listed in _listed(cohort.manifest):
        file = f" (from {listed['source']})" if "source" in listed else ""
        try:
            voxels = cohort.voxels(name, i, j)
        except UserError as error:
            yield f"{error}{file}"
            continue
        if _digest(voxels) != listed["voxels"]:
            yield f"subject {cohort.subjects[i]!r}, visit {cohort.visits[i][j]!r}, {name}: voxels changed{file}"
        if sources is not None and "source" in listed:
            where = f"subject {cohort.subjects[i]!r}, visit {cohort.visits[i][j]!r}"
            yield from _verify_source(sources, listed["source"], listed["sha256"], where)
    if sources is not None:  # the tables of the first ingest; those appended later may lie elsewhere
        for name, digest in cohort.manifest["provenance"].get("sources", {}).items():
            yield from _verify_source(sources, name, digest, "clinical variables")


def sha256_file(path: str) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    files, source = fsspec.url_to_fs(path)
    with files.open(source, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify_source(root: str, name: str, digest: str, where: str) -> Iterator[str]:
    file = f"{root.rstrip('/')}/{name}"
    files, path = fsspec.url_to_fs(file)
    if not files.exists(path):
        yield f"{where}: source file {name} is missing"
    elif sha256_file(file) != digest:
        yield f"{where}: source file {name} changed since ingest"


def _listed(manifest: Mapping) -> Iterator[tuple[int, int, str, Mapping]]:
    for i, entry in enumerate(manifest["subjects"]):
        for j, visit in enumerate(entry["visits"]):
            for name, listed in visit["scans"].items():
                yield i, j, name, listed


def _row(subject: Subject, schema: Schema) -> dict[str, np.ndarray]:
    def encode(values: Mapping, variables: tuple[Variable, ...]) -> np.ndarray:
        return np.array([variable.encode(values.get(variable.name)) for variable in variables], np.float64)

    values = np.stack([encode(visit.values, schema.variables) for visit in subject.visits])
    static = encode(subject.static, schema.static)
    return {
        "times": np.array([visit.time for visit in subject.visits], np.float64),
        "values": np.nan_to_num(values),  # missing is a mask, never NaN, from here on
        "observed": ~np.isnan(values),
        "static": np.nan_to_num(static),
        "static_observed": ~np.isnan(static),
    }


def _read_manifest(path: str) -> dict:
    files, root = fsspec.url_to_fs(path)
    if not files.exists(f"{root}/manifest.json"):
        raise UserError(f"no cohort at {path}; make one with `python -m experiments.ingest`")
    try:
        told = json.loads(files.cat_file(f"{root}/manifest.json"))
        digest, manifest = told["digest"], told["manifest"]
    except DAMAGE as error:
        raise UserError(f"the manifest of {path} is damaged ({_line(error)}); ingest the cohort anew") from error
    if digest != _digest_json(manifest):
        raise UserError(f"the manifest of {path} is not what was written; ingest the cohort anew")
    if manifest["format"] != FORMAT:
        raise UserError(f"the cohort at {path} has format {manifest['format']}; expected {FORMAT}: ingest it anew")
    return manifest


def _write_manifest(path: str, manifest: Mapping) -> None:
    files, root = fsspec.url_to_fs(path)
    told = {"digest": _digest_json(manifest), "manifest": manifest}
    files.pipe_file(f"{root}/manifest.json.new", json.dumps(told, indent=1).encode())
    files.mv(f"{root}/manifest.json.new", f"{root}/manifest.json")


def _zarr_store(path: str, read_only: bool = False) -> LocalStore | FsspecStore:
    series = f"{path.rstrip('/')}/series.zarr"
    if "://" in path:
        return FsspecStore.from_url(series, read_only=read_only)
    return LocalStore(series, read_only=read_only)


def _zarr_array(group: zarr.Group, name: str) -> zarr.Array:
    found = group[name]
    if not isinstance(found, zarr.Array):
        raise TypeError(f"{name} is no array")
    return found


def _codecs() -> list:
    return [BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"), Crc32cCodec()]


def _digest(*arrays: np.ndarray) -> str:
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.dtype}{array.shape}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def _digest_json(tree: Mapping) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
