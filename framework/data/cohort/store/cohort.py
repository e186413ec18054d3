"""An opened cohort, as everybody reads it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr
import zarr
from jaxtyping import Bool, Float

from framework.data.cohort.schema import Modality, Schema
from framework.data.cohort.store.atomic import complete
from framework.data.cohort.store.files import (
    DAMAGE,
    REWRITE,
    TABLES,
    check_metadata,
    digest_arrays,
    digest_json,
    line,
    listed_scans,
    longest_of,
    read_manifest,
    zarr_array,
    zarr_store,
)
from framework.data.cohort.store.lazy import lazy_scans
from framework.errors import UserError


@dataclass(frozen=True)
class Cohort:
    """An opened cohort: its tables in memory (n subjects, t visits), its scans on disk until asked for.

    `until` is set where it is a cohort as it was known at an earlier time: years since each subject's first visit,
    after which nothing is known, whatever variables recorded once per subject may say of later.
    """

    path: str
    schema: Schema
    manifest: Mapping
    times: Float[np.ndarray, "n t"]
    values: Float[np.ndarray, "n t f"]
    observed: Bool[np.ndarray, "n t f"]
    static: Float[np.ndarray, "n s"]
    static_observed: Bool[np.ndarray, "n s"]
    until: Float[np.ndarray, " n"] | None = None

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
        for i, j, name, _ in listed_scans(self.manifest):
            if name in tables:
                tables[name][i, j] = True
        return tables

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over schema, tables and voxels: equal for equal data, whatever folder they lie in."""
        return digest_json({key: self.manifest[key] for key in ("format", "schema", "subjects")})

    @cached_property
    def _group(self) -> zarr.Group:
        return zarr.open_group(zarr_store(self.path, read_only=True), mode="r")

    @cached_property
    def _arrays(self) -> dict[str, zarr.Array]:
        """The arrays of scans opened so far: looking one up reads its metadata again."""
        return {}

    @cached_property
    def dataset(self) -> xr.Dataset:
        """The cohort as an xarray Dataset, with ids and variable names as coordinates.

        Its tables are those in memory; scans are read when asked for, each checked, NaN where there is none.
        """
        tables = {
            "times": (("subject", "visit"), self.times),
            "values": (("subject", "visit", "variable"), self.values),
            "observed": (("subject", "visit", "variable"), self.observed),
            "static": (("subject", "static_variable"), self.static),
            "static_observed": (("subject", "static_variable"), self.static_observed),
        }
        scans = {f"scan_{m.name}": self._scans(m) for m in self.schema.modalities}
        names = {
            "subject": list(self.subjects),
            "variable": [v.name for v in self.schema.variables],
            "static_variable": [v.name for v in self.schema.static],
        }
        return xr.Dataset({**tables, **scans}, coords=names)

    def _scans(self, modality: Modality) -> xr.Variable:
        shape, name = (*self.times.shape, *modality.shape, modality.channels), modality.name
        present = self.present[name]
        dims = ("subject", "visit", *(f"{axis}_scan_{name}" for axis in "xyzc"))
        return xr.Variable(dims, lazy_scans(shape, present, lambda i, j: self.voxels(name, i, j)))

    def voxels(self, modality: str, subject: int, visit: int) -> Float[np.ndarray, "x y z c"]:
        """One scan. Raises UserError where it is not listed, gone from the store, or not what was written."""
        where = f"subject {self.subjects[subject]!r}, visit {self.visits[subject][visit]!r}, {modality}"
        if not self.present[modality][subject, visit]:
            raise UserError(f"{where}: the cohort lists no such scan; ask `present` first")
        name = f"scan_{modality}"
        try:
            if modality not in self._arrays:
                check_metadata(self.path, self.manifest, ("", name))
                self._arrays[modality] = zarr_array(self._group, name)
            voxels = np.asarray(self._arrays[modality][subject, visit])
        except DAMAGE as error:
            raise UserError(f"{where}: its chunk is damaged ({line(error)}); re-ingest the cohort") from error
        listed = self.manifest["subjects"][subject]["visits"][visit]["scans"][modality]
        if digest_arrays(voxels) != listed["voxels"]:
            gone = "listed, but its chunk is missing from" if np.isnan(voxels).all() else "voxels changed in"
            raise UserError(f"{where}: {gone} {self.path}; re-ingest the cohort")
        return voxels

    def column(self, variable: str) -> int:
        """The index of a visit variable in `values`."""
        return self.schema.variables.index(self.schema.variable(variable))


def exists(path: str) -> bool:
    """Whether there is a cohort at `path`, whole."""
    return complete(path)


def open_cohort(path: str) -> Cohort:
    """Open the cohort at `path`, a folder or any fsspec URL, without reading a voxel.

    Raises UserError where there is none, or where its manifest or a table is not what was written.
    """
    cohort = unchecked(path)
    for fault in changed_tables(cohort):
        raise UserError(f"{fault}, in {path}; {REWRITE}")
    return cohort


def unchecked(path: str) -> Cohort:
    """The cohort at `path` with its tables as they are there, whatever was written."""
    manifest = read_manifest(path)
    total = len(manifest["subjects"])  # rows beyond it belong to an append that never committed
    longest = longest_of(manifest)
    try:
        check_metadata(path, manifest, ("", *TABLES))
        group = zarr.open_group(zarr_store(path, read_only=True), mode="r")
        held = {name: zarr_array(group, name) for name in TABLES}
        tables = {
            name: np.asarray(array[:total] if name.startswith("static") else array[:total, :longest])
            for name, array in held.items()
        }
    except DAMAGE as error:
        raise UserError(f"the tables of {path} are damaged ({line(error)}); {REWRITE}") from error
    return Cohort(path=path, schema=Schema.from_json(manifest["schema"]), manifest=manifest, **tables)


def changed_tables(cohort: Cohort) -> Iterator[str]:
    """One line for each subject whose clinical values are not those that were written, or for a table as a whole."""
    tables = {name: getattr(cohort, name) for name in TABLES}
    changed = [name for name, table in tables.items() if digest_arrays(table) != cohort.manifest["tables"][name]]
    if not changed:
        return
    shape = (len(cohort.manifest["subjects"]), longest_of(cohort.manifest))
    short = [name for name in changed if tables[name].shape[:2] != shape and not name.startswith("static")]
    entries = [] if short else cohort.manifest["subjects"]
    found = False
    for i, entry in enumerate(entries):
        count = len(entry["visits"])
        row = [table[i, :count] if "static" not in name else table[i] for name, table in tables.items()]
        if digest_arrays(*row) != entry["tables"]:
            found = True
            yield f"subject {entry['id']!r}: its clinical values are not those that were written"
    if not found:
        yield f"the table of {(short or changed)[0]} is not the one that was written"
