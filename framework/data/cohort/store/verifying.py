"""Whether all that was written to a cohort is still there as it was."""

from collections.abc import Iterator

import fsspec

from framework.data.cohort.store.cohort import changed_tables, unchecked
from framework.data.cohort.store.files import listed_scans, read_beside, sha256_file
from framework.errors import UserError


def verify(path: str, sources: str | None = None) -> Iterator[str]:
    """Yield one line for each thing of the cohort that is missing or changed, naming subject, visit and file.

    `sources` is the folder the source files were read from, to have their SHA-256 compared as well.
    """
    cohort = unchecked(path)
    yield from changed_tables(cohort)
    for name in cohort.manifest["beside"]:
        try:
            read_beside(path, name)
        except UserError as error:
            yield str(error)
    for i, j, name, listed in listed_scans(cohort.manifest):
        file = f" (from {listed['source']})" if "source" in listed else ""
        try:
            cohort.voxels(name, i, j)
        except UserError as error:
            yield f"{error}{file}"
            continue
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
