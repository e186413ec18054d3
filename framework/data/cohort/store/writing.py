"""Bringing subjects into a cohort, new or there already."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.metadata import version

import fsspec
import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from framework.data.cohort.schema import Schema, Subject, Variable, validate
from framework.data.cohort.store.atomic import discard, vacant
from framework.data.cohort.store.cohort import Cohort, exists, open_cohort
from framework.data.cohort.store.files import (
    APPENDED,
    FORMAT,
    TABLES,
    beside_digests,
    digest_arrays,
    longest_of,
    metadata_digest,
    read_manifest,
    settle,
    write_manifest,
    zarr_array,
    zarr_store,
)
from framework.errors import UserError

VISITS_PER_SHARD = 16
SUBJECTS_PER_CHUNK = 256


class Writer:
    """Adds subjects to a cohort, scans as soon as a shard is full, tables and manifest on `commit`.

    A new cohort keeps the scans of `subjects_per_shard` subjects in one shard; one that is there keeps to its own
    shards, and `before` are its tables.
    """

    def __init__(
        self,
        path: str,
        schema: Schema,
        manifest: dict,
        subjects_per_shard: int = 1,
        before: Mapping[str, np.ndarray] | None = None,
    ):
        self.path, self.schema, self.manifest, self._subjects_per_shard = path, schema, manifest, subjects_per_shard
        self._before = before or {}
        self._first = len(manifest["subjects"])
        self._group = zarr.open_group(zarr_store(path), mode="a")
        self._rows: list[Subject] = []
        self._known = {entry["id"] for entry in manifest["subjects"]}
        self._arrays = {m.name: self._array(f"scan_{m.name}", (*m.shape, m.channels)) for m in schema.modalities}
        self._subjects_per_shard = max(
            (array.shards[0] for array in self._arrays.values() if array.shards), default=subjects_per_shard
        )
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
                entry = {"voxels": digest_arrays(scans[name][j])}
                if scan.source:
                    entry |= {"source": scan.source.path, "sha256": scan.source.sha256}
                visits[j]["scans"][name] = entry
        self._waiting.append(scans)
        # scans go to disk: what is kept of the subject is its row alone
        row = replace(subject, visits=tuple(replace(visit, scans={}) for visit in subject.visits))
        self._rows.append(row)
        digest = digest_arrays(*_row(row, self.schema).values())
        self.manifest["subjects"].append({"id": subject.id, "visits": visits, "tables": digest})
        if (self._first + len(self._rows)) % self._subjects_per_shard == 0:
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

    def commit(self, beside: Mapping[str, str]) -> None:
        """Write the tables, then the manifest; only now do the added subjects exist.

        `beside` has the digest of each file that belongs to the cohort beside its arrays.
        """
        self._flush()
        total = self._first + len(self._rows)
        sizes = {"values": len(self.schema.variables), "observed": len(self.schema.variables)}
        longest = max((len(row.visits) for row in self._rows), default=0)
        tables: dict[str, str] = {}
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
            tables[name] = self._digest(name, block)
        for array in self._arrays.values():
            array.resize((total, max(array.shape[1], longest), *array.shape[2:]))
        names = ("", *TABLES, *(f"scan_{name}" for name in self._arrays))
        self.manifest |= {
            "tables": tables,
            "arrays": {name: metadata_digest(self.path, name) for name in names},
            "beside": dict(beside),
        }
        write_manifest(self.path, self.manifest)

    def _digest(self, name: str, block: np.ndarray) -> str:
        """The digest of a whole table, of which the rows added are `block`."""
        if not name.startswith("static"):
            block = block[:, : longest_of(self.manifest)]
        before = self._before.get(name, block[:0])
        if before.shape[1:] != block.shape[1:]:  # fewer visits than now
            before = np.pad(before, [(0, 0), (0, block.shape[1] - before.shape[1]), *[(0, 0)] * (block.ndim - 2)])
        return digest_arrays(np.concatenate([before, block]))

    def _array(self, name: str, grid: tuple[int, ...]) -> zarr.Array:
        if name in self._group:
            return zarr_array(self._group, name)
        return self._group.create_array(
            name,
            shape=(0, 0, *grid),
            chunks=(1, 1, *grid),
            shards=(self._subjects_per_shard, VISITS_PER_SHARD, *grid),
            dtype="float32",
            fill_value=np.nan,
            compressors=_codecs(),
            dimension_names=("subject", "visit", *(f"{a}_{name}" for a in "xyzc")),
        )

    def _table(self, name: str, width: int) -> zarr.Array:
        if name in self._group:
            return zarr_array(self._group, name)
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
    path: str,
    schema: Schema,
    subjects: Iterable[Subject],
    provenance: Mapping | None = None,
    subjects_per_shard: int = 1,
) -> Cohort:
    """Make a new cohort at `path` (a folder or fsspec URL); on any failure nothing is left behind.

    `subjects_per_shard` subjects share a shard: 1 where a scan is a volume, more where scans are many and small. Where
    other processes may write, hold `exclusive` meanwhile, as `ingest` does.
    """
    if exists(path):
        raise UserError(f"there is a cohort at {path} already; append to it, or delete the folder first")
    files, root = fsspec.url_to_fs(path)
    if not vacant(path):
        raise UserError(f"{path} is a folder with other files in it; name an empty or a new one")
    discard(path)  # a write that was killed before its manifest
    writer = Writer(
        path,
        schema,
        {
            "format": FORMAT,
            "version": version("prognax"),
            "schema": schema.to_json(),
            "subjects": [],
            "provenance": dict(provenance or {}),
        },
        subjects_per_shard,
    )
    try:
        for subject in subjects:
            writer.add(subject)
        if not writer.manifest["subjects"]:
            raise UserError(f"no subject was left to write to {path}; see the ledger for why each was excluded")
        writer.commit(beside_digests(path))
    except BaseException:
        files.rm(root, recursive=True)
        raise
    return open_cohort(path)


def append(path: str, subjects: Iterable[Subject], provenance: Mapping | None = None) -> Cohort:
    """Add subjects to the cohort at `path`; until all are written, the cohort stays what it was.

    The files beside its arrays are those that lie in `APPENDED` once the last subject was taken, or the old ones.
    """
    settle(path)  # what an append left that was killed
    before, manifest = open_cohort(path), read_manifest(path)
    manifest["provenance"].setdefault("appended", []).append(dict(provenance or {}))
    tables = {name: getattr(before, name) for name in TABLES}
    writer = Writer(path, before.schema, manifest, before=tables)
    try:
        for subject in subjects:
            writer.add(subject)
        writer.commit(manifest["beside"] | beside_digests(f"{path}/{APPENDED}"))
    finally:
        settle(path)
    return open_cohort(path)


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


def _codecs() -> list:
    return [BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"), Crc32cCodec()]
