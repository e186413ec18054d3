"""The cohort on disk: time-indexed scan series as xarray over zarr v3, with a manifest of what must exist.

A cohort is a folder: `series.zarr` (the arrays), `manifest.json`, and beside them the ingest's ledger.
Flat and padded: tables of dims (subject, visit, variable), and per modality one array of dims
(subject, visit, x, y, z, channel) with one scan per chunk and one shard per subject (or for `subjects_per_shard` of
them, where scans are small and many), absent visits never written. zarr alone answers a deleted chunk with fill
values and a flipped bit with wrong voxels, so every chunk carries a CRC-32C and `manifest.json` lists each scan
with the digest of its voxels and the SHA-256 of its source file. The manifest is written last: a folder without
one is no cohort. One process writes at a time, and a cohort that is replaced is replaced whole (`atomic.py`).
"""

from framework.data.cohort.store.atomic import exclusive
from framework.data.cohort.store.cohort import Cohort, exists, open_cohort
from framework.data.cohort.store.files import sha256_file
from framework.data.cohort.store.verifying import verify
from framework.data.cohort.store.writing import append, write

__all__ = ["Cohort", "append", "exclusive", "exists", "open_cohort", "sha256_file", "verify", "write"]
