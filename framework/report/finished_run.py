"""A finished run, read from its folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

import pandas as pd
import yaml

from framework import digests
from framework.data.cohort.quoting import as_read
from framework.errors import UserError
from framework.evaluate import leaderboard, outcomes, subgroups
from framework.evaluate.inference.corrected_ttest import widening
from framework.evaluate.leaderboard import Row
from framework.evaluate.outcomes import Outcomes
from framework.evaluate.terminal_table import references_of
from framework.report.spread import Resampling

READ = (
    *("manifest.json", "config.yaml", "forecasts.zarr", "leaderboard.json", "subgroups.json", "certificate.json"),
    *("metrics.jsonl", "history.csv", "ledger.csv", "cost.json", "participants.json", "chosen.json"),
)


@dataclass(frozen=True)
class Run:
    """The parts of a finished run; None for a part that the run did not write."""

    manifest: Mapping
    outcomes: Sequence[Outcomes]
    rows: Sequence[Row]
    resamples: int
    groups: Sequence[subgroups.Group]
    config: str | None
    learning: pd.DataFrame | None
    history: pd.DataFrame | None
    ledger: pd.DataFrame | None
    cost: Mapping | None
    certificate: Mapping | None
    participants: Mapping | None
    chosen: Mapping | None
    kept: bool  # whether the fitted models lie with the run

    @cached_property
    def settings(self) -> Mapping:
        """The resolved configuration; nothing where the run kept none. Raises UserError where it is no YAML."""
        try:
            return yaml.safe_load(self.config or "") or {}
        except yaml.YAMLError as error:
            raise UserError(f"config.yaml of the run is no YAML ({error}); restore the file the run wrote") from error

    @property
    def resampling(self) -> Resampling:
        """The draws of its leaderboard."""
        return Resampling(self.resamples, self.settings.get("seed") or 0)

    @property
    def widened(self) -> float:
        """How many times wider than the bootstrap's its intervals are at most."""
        return max((widening(one.fold) for one in self.outcomes), default=1.0)

    @property
    def models(self) -> list[str]:
        """Every model in one order, so that each has one colour and one mark on the whole page."""
        return list(dict.fromkeys(row.model for row in self.rows))

    @property
    def references(self) -> list[str]:
        return references_of(self.rows)

    def accounted(self, item: str, status: str) -> int:
        """How often the ledger has an item (subject, visit) as used or excluded; 0 where there is no ledger."""
        if self.ledger is None:
            return 0
        rows = zip(self.ledger["item"], self.ledger["status"], strict=True)
        return sum(row == (item, status) for row in rows)

    def metrics(self, target: str) -> list[list[Row]]:
        """A target's rows, metric by metric, the headline metric first."""
        rows = [row for row in self.rows if row.target == target]
        return [list(group) for _, group in groupby(rows, key=lambda row: row.metric)]

    def shown(self, target: str) -> str:
        """The model whose forecasts are drawn: the best that is no reference, or the best reference where all are."""
        rows = self.metrics(target)[0]
        return min(rows, key=lambda row: (row.model in self.references, row.loss())).model


def read(folder: Path) -> Run:
    """Read a run folder. Raises UserError where what every run writes is not there, or a file is not what it wrote."""
    for name in ("manifest.json", "leaderboard.json"):
        if not (folder / name).is_file():
            raise UserError(f"{folder} has no {name}; expected the folder of a finished run")
    digests.check(folder, *READ)
    rows, resamples = leaderboard.read(folder)

    def text(name: str) -> str | None:
        return (folder / name).read_text() if (folder / name).is_file() else None

    def table(name: str) -> pd.DataFrame | None:
        # ids and levels are words, even where they look like numbers or like a missing value
        path = folder / name
        return as_read(pd.read_csv(path, dtype=str, keep_default_na=False)) if path.is_file() else None

    def tree(name: str) -> Mapping | None:
        content = text(name)
        return json.loads(content) if content else None

    lines = text("metrics.jsonl")
    return Run(
        manifest=json.loads((folder / "manifest.json").read_text()),
        outcomes=outcomes.read(folder),
        rows=rows,
        resamples=resamples,
        groups=subgroups.read(folder) if (folder / "subgroups.json").is_file() else (),
        config=text("config.yaml"),
        learning=pd.DataFrame([json.loads(line) for line in lines.splitlines()]) if lines else None,
        history=table("history.csv"),
        ledger=table("ledger.csv"),
        cost=tree("cost.json"),
        certificate=tree("certificate.json"),
        participants=tree("participants.json"),
        chosen=tree("chosen.json"),
        kept=(folder / "models").is_dir(),
    )
