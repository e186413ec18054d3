"""The headline metric in each subgroup, as tables: a row a subgroup, a column a model."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby

import pandas as pd

from framework.evaluate.inference.multiple_comparisons import ALPHA
from framework.evaluate.leaderboard import Estimate
from framework.evaluate.subgroups import Group
from framework.evaluate.terminal_table import bracketed, decimals
from framework.report.tables import Cell, Table, words


def tables(groups: Sequence[Group]) -> list[Table]:
    """One table a target; bold ("best") marks a subgroup that differs from the remaining subjects."""
    return [_table(target, list(rows)) for target, rows in groupby(groups, key=lambda row: row.target)]


def apart(group: Group) -> bool:
    """Whether a subgroup differs from the remaining subjects, all of a target and model held to one error rate."""
    return group.p is not None and group.p < ALPHA


def _table(target: str, rows: list[Group]) -> Table:
    places = decimals(rows)

    def line(row: Group, cells: Sequence[Group]) -> list[Cell]:
        scores = [
            Cell(bracketed(Estimate(cell.value, cell.low, cell.high), places), mark="best" if apart(cell) else "")
            for cell in cells
        ]
        pairs = [] if row.comparable is None else words(min(cell.comparable or 0 for cell in cells))
        return [*words(row.by, row.level, row.subjects, row.pairs), *pairs, *scores]

    compared = [] if rows[0].comparable is None else ["Comparable pairs"]
    parts = [list(part) for _, part in groupby(rows, key=lambda row: (row.by, row.level))]
    return Table(
        f"subgroups-{target}",
        f"{rows[0].metric} of {target} by subgroup",
        ("By", "Subgroup", "Subjects", "Forecasts", *compared, *(row.model for row in parts[0])),
        [line(part[0], part) for part in parts],
        pd.DataFrame([asdict(row) for row in rows]),
        words=2,
        grouped=True,
    )
