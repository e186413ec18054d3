"""Whether all that was written to a cohort is still there as it was."""

from collections.abc import Iterator

import fsspec

from framework.data.store.cohort import open_cohort
from framework.data.store.files import TABLES, digest_arrays, listed_scans, sha256_file
from framework.errors import UserError


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
        if digest_arrays(*row) != entry["tables"]:
            yield f"subject {entry['id']!r}: its clinical values are not those that were written"
    for i, j, name, listed in listed_scans(cohort.manifest):
        file = f" (from {listed['source']})" if "source" in listed else ""
        try:
            voxels = cohort.voxels(name, i, j)
        except UserError as error:
            yield f"{error}{file}"
            continue
        if digest_arrays(voxels) != listed["voxels"]:
            yield f"subject {cohort.subjects[i]!r}, visit {cohort.visits[i][j]!r}, {name}: voxels changed{file}"
        if sources is not None and "source" in listed:
            where = f"subject {cohort.subjects[i]!r}, visit {cohort.visits[i][j]!r}"
            yield from _verify_source(sources, listed["source"], listed["sha256"], where)
    if sources is not None:  # the tables of the first ingest; those appended later may lie elsewhere
        for name, digest in cohort.manifest["provenance"].get("sources", {}).items():
            yield from _verify_source(sources, name, digest, "clinical variables")


def _verify_source(root: str, name: str, digest: str, where: str) -> Iterator[str]:
    file = f"{root.rstrip('/')}/{name}"
    files, path = fsspec.url_to_fs(file)
    if not files.exists(path):
        yield f"{where}: source file {name} is missing"
    elif sha256_file(file) != digest:
        yield f"{where}: source file {name} changed since ingest"
