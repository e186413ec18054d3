"""The data of a study: the cohort, brought in if need be, and what is asked of it."""

import fcntl
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from framework.data.events import Happening
from framework.data.examples import Examples
from framework.data.ingest.base import LEDGER, ingest
from framework.data.layout import layout
from framework.data.ledger import Entry, Ledger
from framework.data.store import Cohort, exists, open_cohort
from framework.types import RESOLUTION


def cohort_of(config: DictConfig) -> Cohort:
    """The cohort at `config.data.store`, ingested by `config.data.reader` where there is none yet."""
    store = config.data.store
    if not exists(store):
        with _in_turn(store):
            if not exists(store):  # still, after those who were before
                print(f"no cohort at {store} yet; ingesting {config.data.name}", file=sys.stderr)
                ingest(instantiate(config.data.reader, _convert_="all"), store)
    return open_cohort(store)


@contextmanager
def _in_turn(store: str) -> Iterator[None]:
    """One process of this machine at a time: jobs that begin side by side would all bring the cohort in."""
    folder = None
    with suppress(OSError):  # whoever writes the cohort says what is the matter with its place
        if "://" not in store:
            Path(store).parent.mkdir(parents=True, exist_ok=True)
            folder = os.open(Path(store).parent, os.O_RDONLY)
            fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if folder is not None:
            os.close(folder)


def examples_of(config: DictConfig) -> Examples:
    """The cohort as questions and answers about `config.data.targets`."""
    cohort = cohort_of(config)
    told = events_of(config)
    shape = layout(cohort.schema, list(config.data.targets), list(config.data.hidden), told, resolution_of(config))
    return Examples(cohort, shape, config.ask, events={t.name: told[t.name] for t in shape.targets if t.horizons})


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
    ledger = Ledger.read(f"{store}/{LEDGER}")
    Ledger([*ledger.entries, *more]).write(str(run / "ledger.csv"))
