"""Cohorts read and verified on demand."""

import sys

from hydra.utils import instantiate
from omegaconf import DictConfig

from framework.data.cohort.ledger import Ledger
from framework.data.cohort.store import verify
from framework.data.ingest.base import LEDGER, ingest
from framework.data.ingest.tables.table_file import locate
from framework.errors import UserError


def ingest_cohort(config: DictConfig) -> None:
    """Write the cohort of `config.data`, print its ledger's summary, and verify it."""
    store = config.data.store
    counter = (lambda number: print(f"\rsubject {number} ", end="", file=sys.stderr)) if sys.stderr.isatty() else None
    ingest(instantiate(config.data.reader, _convert_="all"), store, config.if_exists, counter)
    print(Ledger.read(f"{store}/{LEDGER}").summary())
    print(f"store:  {store}\nledger: {store}/{LEDGER}")
    verify_cohort(config)


def verify_cohort(config: DictConfig) -> None:
    """Print every fault of the cohort at `config.data.store`. Raise UserError where there are any."""
    store = config.data.store
    problems = list(verify(store, _folder(config.data.path)))
    for problem in problems:
        print(problem)
    if problems:
        raise UserError(f"{store} has {len(problems)} faults, listed above; re-ingest it with if_exists=overwrite")
    print("verify: every scan and table is as it was written, and every source file as it was read")


def _folder(path: str | None) -> str | None:
    """Return the folder of the source files; None for data without any (a simulation)."""
    if path is None:
        return None
    source = locate(path)
    return str(source if source.is_dir() else source.parent)
