"""An opened cohort, as everybody reads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr
import zarr
from jaxtyping import Bool, Float

from framework.data.schema import Schema
from framework.data.store.atomic import complete
from framework.data.store.files import (
    DAMAGE,
    TABLES,
    digest_json,
    line,
    listed_scans,
    read_manifest,
    zarr_array,
    zarr_store,
)
from framework.errors import UserError


@dataclass(frozen=True)
class Cohort:
    """An opened cohort: its tables in memory (n subjects, t visits), its scans on disk until asked for.

    `until` is set where it is a cohort as it was known at an earlier time: years since each subject's first visit,
    after which nothing is known, whatever variables told once per subject may say of later.
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
        """The arrays of scans opened so far: looking one up reads its metadata anew."""
        return {}

    @cached_property
    def dataset(self) -> xr.Dataset:
        """The cohort as a lazy xarray Dataset, with ids and variable names as coordinates."""
        dataset = xr.open_zarr(zarr_store(self.path, read_only=True), chunks=None, consolidated=False)
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
                self._arrays[modality] = zarr_array(self._group, f"scan_{modality}")
            voxels = np.asarray(self._arrays[modality][subject, visit])
        except DAMAGE as error:
            raise UserError(f"{where}: its chunk is damaged ({line(error)}); ingest the cohort anew") from error
        if np.isnan(voxels).all():
            raise UserError(f"{where}: listed, but its chunk is missing from {self.path}; ingest the cohort anew")
        return voxels

    def column(self, variable: str) -> int:
        """The index of a visit variable in `values`."""
        return self.schema.variables.index(self.schema.variable(variable))


def exists(path: str) -> bool:
    """Whether there is a cohort at `path`, whole."""
    return complete(path)


def open_cohort(path: str) -> Cohort:
    """Open the cohort at `path`, a folder or any fsspec URL, without reading a voxel."""
    manifest = read_manifest(path)
    total = len(manifest["subjects"])  # rows beyond it belong to an append that never committed
    try:
        group = zarr.open_group(zarr_store(path, read_only=True), mode="r")
        tables = {name: np.asarray(zarr_array(group, name)[:total]) for name in TABLES}
    except DAMAGE as error:
        raise UserError(f"the tables of {path} are damaged ({line(error)}); ingest the cohort anew") from error
    longest = max((len(entry["visits"]) for entry in manifest["subjects"]), default=0)
    for name in ("times", "values", "observed"):
        tables[name] = tables[name][:, :longest]
    return Cohort(path=path, schema=Schema.from_json(manifest["schema"]), manifest=manifest, **tables)
