"""Cohorts read and verified on demand."""

import logging
import sys

from hydra.utils import instantiate
from omegaconf import DictConfig

from framework.data.cohort.ledger import Ledger
from framework.data.cohort.store import verify
from framework.data.ingest.base import LEDGER, ingest
from framework.data.ingest.tables.table_file import locate
from framework.errors import UserError
from framework.logs import shows_progress_bars

logger = logging.getLogger(__name__)


def ingest_cohort(config: DictConfig) -> None:
    """Write the cohort of `config.data`, print its ledger's summary, and verify it."""
    store = config.data.store
    ingest(instantiate(config.data.reader, _convert_="all"), store, config.if_exists, _count_subject)
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


def _count_subject(number: int) -> None:
    """Show the number of subjects read so far: in place on a terminal, in a line after each hundred elsewhere."""
    if shows_progress_bars():
        sys.stderr.write(f"\rsubject {number} ")
        sys.stderr.flush()
    else:
        logger.log(logging.DEBUG if number % 100 else logging.INFO, "subject %d", number)


def _folder(path: str | None) -> str | None:
    """Return the folder of the source files; None for data without any (a simulation)."""
    if path is None:
        return None
    source = locate(path)
    return str(source if source.is_dir() else source.parent)
