"""Payloads: runs, configurations, tables and arrays that attack the person who opens them.

Each is written into the folder where a user works, beside a folder `victim` whose file it is to destroy, and opened.
"""

from collections.abc import Iterator

from benchmarks.payloads import (
    arrays,
    config_folders,
    malformed,
    names,
    nested_targets,
    paths,
    resolvers,
    tables,
    targets,
)
from benchmarks.payloads.making import Payload

KINDS = (targets, nested_targets, resolvers, malformed, config_folders, arrays, names, paths, tables)


def all_payloads() -> Iterator[Payload]:
    """Yield the payloads of all kinds."""
    for kind in KINDS:
        yield from kind.payloads()
