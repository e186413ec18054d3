"""The data of a study: the cohort, brought in if need be, and what is asked of it."""

import sys
from pathlib import Path

import fsspec
from hydra.utils import instantiate
from omegaconf import DictConfig

from framework.data.examples import Examples
from framework.data.ingest.base import LEDGER, ingest
from framework.data.layout import layout
from framework.data.store import Cohort, exists, open_cohort


def cohort_of(config: DictConfig) -> Cohort:
    """The cohort at `config.data.store`, ingested by `config.data.reader` where there is none yet."""
    store = config.data.store
    if not exists(store):
        print(f"no cohort at {store} yet; ingesting {config.data.name}", file=sys.stderr)
        ingest(instantiate(config.data.reader, _convert_="all"), store)
    return open_cohort(store)


def examples_of(config: DictConfig) -> Examples:
    """The cohort as questions and answers about `config.data.targets`."""
    cohort = cohort_of(config)
    return Examples(cohort, layout(cohort.schema, list(config.data.targets), list(config.data.hidden)), config.ask)


def facts(config: DictConfig, cohort: Cohort) -> dict:
    """What a run's manifest says of its data."""
    return {
        "experiment": config.experiment,
        "schema": cohort.schema.to_json(),
        "data": {
            "name": config.data.name,
            "store": config.data.store,
            "fingerprint": cohort.fingerprint,
            "subjects": len(cohort.subjects),
            "visits": int(cohort.valid.sum()),
            "scans": {name: int(present.sum()) for name, present in cohort.present.items()},
        },
    }


def copy_ledger(store: str, run: Path) -> None:
    """Keep the ingest's ledger with the run."""
    files, ledger = fsspec.url_to_fs(f"{store}/{LEDGER}")
    (run / "ledger.csv").write_bytes(files.cat_file(ledger))
