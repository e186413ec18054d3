"""Data of a study: the cohort, ingested if needed, and the examples made of it."""

import logging
from collections.abc import Sequence
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from framework.data.cohort.ledger import Entry, Ledger
from framework.data.cohort.ranges import ranges
from framework.data.cohort.store import Cohort
from framework.data.ingest.base import ingested, ledger_of
from framework.data.ingest.identity import require_same
from framework.data.queries.events import EventDefinition
from framework.data.queries.examples import Examples
from framework.data.queries.layout import layout
from framework.errors import UserError
from framework.types import RESOLUTION

logger = logging.getLogger(__name__)


def load_cohort(config: DictConfig, alone: bool = False) -> Cohort:
    """Open the cohort at `config.data.store`, ingested by `config.data.reader` where there is none yet.

    Raise UserError where it was made from other files or with other settings, or, where it should hold these files
    `alone`, has others appended. With `data.path=null` the files that the cohort was made from are not compared.
    """
    if config.data.store is None:
        raise UserError("data.store is null; name the folder of the cohort: data.store=cohorts/<name>")
    store, reader = config.data.store, instantiate(config.data.reader, _convert_="all")
    cohort = ingested(reader, store, lambda: logger.info("no cohort at %s yet; ingesting %s", store, config.data.name))
    unnamed = "path" in config.data and config.data.path is None
    require_same(cohort, reader.settings, None if unnamed else reader.files(), alone)
    logger.debug("cohort %s: %d subjects, fingerprint %s", store, len(cohort.subjects), cohort.fingerprint[:12])
    return cohort


def load_examples(config: DictConfig) -> Examples:
    """Load the cohort as queries and outcomes of `config.data.targets`."""
    cohort = load_cohort(config)
    events = build_events(config)
    shape = layout(cohort.schema, list(config.data.targets), list(config.data.hidden), events, resolution_years(config))
    return Examples(cohort, shape, config.task, events={t.name: events[t.name] for t in shape.events})


def build_events(config: DictConfig) -> dict[str, EventDefinition]:
    """Build the events that the data's configuration defines, by name."""
    return instantiate(config.data.get("events") or {}, _convert_="all")


def resolution_years(config: DictConfig) -> float:
    """Return the gap between visits, in years, below which no rate of change is computed."""
    return float(config.data.get("resolution", RESOLUTION))


def describe_data(config: DictConfig, cohort: Cohort) -> dict:
    """Return the entries of a run's manifest on its data."""
    return {
        "experiment": config.experiment,
        "schema": cohort.schema.to_json(),
        "ranges": ranges(cohort),
        "data": {
            "name": config.data.name,
            "store": config.data.store,
            "fingerprint": cohort.fingerprint,
            "subjects": len(cohort.subjects),
            "visits": int(cohort.valid.sum()),
            "scans": {name: int(present.sum()) for name, present in cohort.present.items()},
        },
    }


def copy_ledger(store: str, run: Path, exclusions: Sequence[Entry] = ()) -> None:
    """Save the ledger of the ingest with the run, with the entries that the study excludes in addition."""
    ledger = ledger_of(store)
    Ledger([*ledger.entries, *exclusions]).write(str(run / "ledger.csv"))
