"""The data of a study: the cohort, brought in if need be, and what is asked of it."""

import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from framework.data.cohort.ledger import Entry, Ledger
from framework.data.cohort.ranges import ranges
from framework.data.cohort.store import Cohort
from framework.data.ingest.base import ingested, ledger_of
from framework.data.ingest.identity import require_same
from framework.data.queries.events import Happening
from framework.data.queries.examples import Examples
from framework.data.queries.layout import layout
from framework.errors import UserError
from framework.types import RESOLUTION


def cohort_of(config: DictConfig, alone: bool = False) -> Cohort:
    """The cohort at `config.data.store`, ingested by `config.data.reader` where there is none yet.

    Raises UserError where the one that is there was made from other files or with other settings, or, asked for these
    files `alone`, has others appended. With `data.path=null` the cohort is taken for whatever files it was made from.
    """
    if config.data.store is None:
        raise UserError("data.store is null; name the folder of the cohort: data.store=cohorts/<name>")
    store, reader = config.data.store, instantiate(config.data.reader, _convert_="all")
    cohort = ingested(
        reader, store, lambda: print(f"no cohort at {store} yet; ingesting {config.data.name}", file=sys.stderr)
    )
    unnamed = "path" in config.data and config.data.path is None
    require_same(cohort, reader.settings, None if unnamed else reader.files(), alone)
    return cohort


def examples_of(config: DictConfig) -> Examples:
    """The cohort as questions and answers about `config.data.targets`."""
    cohort = cohort_of(config)
    told = events_of(config)
    shape = layout(cohort.schema, list(config.data.targets), list(config.data.hidden), told, resolution_of(config))
    return Examples(cohort, shape, config.ask, events={t.name: told[t.name] for t in shape.events})


def events_of(config: DictConfig) -> dict[str, Happening]:
    """What the data's configuration calls events, by name."""
    return instantiate(config.data.get("events") or {}, _convert_="all")


def resolution_of(config: DictConfig) -> float:
    """The gap between visits, in years, below which the data's configuration takes no rate of change."""
    return float(config.data.get("resolution", RESOLUTION))


def facts(config: DictConfig, cohort: Cohort) -> dict:
    """What a run's manifest says of its data."""
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


def copy_ledger(store: str, run: Path, more: Sequence[Entry] = ()) -> None:
    """Keep the ingest's ledger with the run, and what the study left out besides."""
    ledger = ledger_of(store)
    Ledger([*ledger.entries, *more]).write(str(run / "ledger.csv"))
